"""Conflicts over HTTP: users that synced before and are gone, listed, decided on, exported."""

import csv
import io

import pytest

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import put_conflict, put_user, set_up


@pytest.fixture
async def customer(api):
    """A customer with a verified domain."""
    path = await api.customer()
    await api.verified(path, "acme.com")
    return path


async def emails(api, customer, query=""):
    found = (await api.get(f"{customer}/directory/conflicts{query}", expect=200)).json()
    return [one["email"] for one in found["items"]]


async def decide(api, customer, action, *users, **options):
    body = {"action": action, "user_ids": [user["_id"] for user in users]}
    return await api.post(f"{customer}/directory/conflicts/actions", body, **options)


async def state_of(api, user):
    found = {one["_id"]: one for one in await api.all("users")}
    return found[user["_id"]]["state"] if user["_id"] in found else None


@pytest.mark.spec("S13", "S2")
async def test_only_users_who_are_gone_from_the_directory_are_conflicts(api, customer):
    await put_user(api, customer, "active@acme.com")
    await put_user(api, customer, "by-hand@acme.com", state="flagged", flag_reason="by hand", directory_state="present")
    await put_conflict(api, customer, "manual@acme.com", source="manual")
    gone = await put_conflict(api, customer, "gone@acme.com", first_name="Ann")
    await put_conflict(api, customer, "disabled@acme.com", flag_reason="disabled", directory_state="disabled")
    await put_conflict(api, customer, "both@acme.com", flag_reason="by hand")
    await put_conflict(api, customer, "ignored@acme.com", state="ignored", due_at=None, source="entra")
    assert await emails(api, customer) == ["both@acme.com", "disabled@acme.com", "gone@acme.com", "ignored@acme.com"]
    shown = (await api.get(f"{customer}/directory/conflicts?search=GONE", expect=200)).json()["items"][0]
    assert (shown["user_id"], shown["state"], shown["reason"]) == (gone["_id"], "flagged", "absent")
    assert (shown["directory_state"], shown["source"], shown["first_name"]) == ("absent", "ldap", "Ann")
    assert shown["due_at"] is not None
    assert await emails(api, customer, "?state=ignored") == ["ignored@acme.com"]
    assert await emails(api, customer, "?reason=disabled") == ["disabled@acme.com"]
    assert await emails(api, customer, "?source=entra&search=gone") == []
    assert await emails(api, customer, "?source=entra") == ["ignored@acme.com"]
    first = (await api.get(f"{customer}/directory/conflicts?limit=3&sort=-email", expect=200)).json()
    assert await emails(api, customer, f"?limit=3&sort=-email&cursor={first['next_cursor']}") == ["both@acme.com"]


@pytest.mark.spec("S13", "S14", "S16")
async def test_it_is_told_why_a_deletion_waits(api, customer):
    gone = await put_conflict(api, customer, "gone@acme.com")
    hand = await put_conflict(api, customer, "hand@acme.com", flag_reason="by hand")

    async def told():
        shown = (await api.get(f"{customer}/directory/conflicts", expect=200)).json()["items"]
        listed = (await api.get(f"{customer}/users", expect=200)).json()["items"]
        found = {one["user_id"]: one["deletion_paused"] for one in shown}
        assert found == {one["id"]: one["deletion_paused"] for one in listed}
        assert found[hand["_id"]] is None
        one = (await api.get(f"{customer}/users/{gone['_id']}", expect=200)).json()
        assert one["deletion_paused"] == found[gone["_id"]]
        return found[gone["_id"]]

    assert await told() is None
    await set_up(api, customer)
    assert await told() == "directory_unread"
    directories = api.mongo.collection(Collections.DIRECTORIES, PLATFORM)
    now = api.mongo.clock.now()
    last_good = {"run_id": "run_x", "at": now, "users": 1, "groups": 0}
    await directories.update_one({}, {"$set": {"last_good": last_good}})
    assert await told() is None
    path = f"{customer}/directory"
    for kind, body in (("exceptions", {"kind": "user", "external_id": "42"}), ("additions", {"address": "b@acme.com"})):
        await api.post(f"{path}/{kind}", body, expect=201)
        assert await told() == "awaiting_run", kind
        await directories.update_one({}, {"$set": {"last_good.at": api.mongo.clock.now()}})
        assert await told() is None
    await directories.update_one({}, {"$set": {"enabled": False, "frozen": True}})
    assert await told() == "frozen"


@pytest.mark.spec("S13", "X3", "X2")
async def test_conflicts_are_deleted_at_once(api, customer):
    one, two = [await put_conflict(api, customer, f"u{number}@acme.com") for number in (1, 2)]
    answer = (await decide(api, customer, "delete", two, one, two, expect=200)).json()
    assert answer["action"] == "delete"
    assert answer["results"] == [
        {"user_id": two["_id"], "state": "deleted"}, {"user_id": one["_id"], "state": "deleted"},
    ]  # fmt: skip
    assert await api.all("users") == []
    assert await api.all("addresses") == []
    assert {user["_id"] for user in await api.all("deleted_users")} == {one["_id"], two["_id"]}
    for name in ("UserDeleted", "ConflictResolved"):
        assert [event["subject"] for event in await api.events(name)] == [two["_id"], one["_id"]]


@pytest.mark.spec("S13", "X3")
async def test_1h_6_an_ignored_user_stays_usable_and_is_never_due(api, customer):
    user = await put_conflict(api, customer, "ann@acme.com")
    await decide(api, customer, "ignore", user, expect=200)
    shown = (await api.get(f"{customer}/directory/conflicts", expect=200)).json()["items"][0]
    assert (shown["state"], shown["due_at"], shown["reason"]) == ("ignored", None, "absent")
    (event,) = await api.events("ConflictResolved")
    assert event["data"]["action"] == "ignore"
    # Again changes nothing and tells nothing.
    assert (await decide(api, customer, "ignore", user, expect=200)).json()["results"][0]["state"] == "ignored"
    assert len(await api.events("ConflictResolved")) == 1


@pytest.mark.spec("S13", "T5")
async def test_a_deactivated_user_is_kept_without_access(api, customer):
    user = await put_conflict(api, customer, "ann@acme.com")
    sessions = api.mongo.collection(Collections.SESSIONS, PLATFORM)
    tokens = api.mongo.collection(Collections.TOKENS, PLATFORM)
    before = len(await api.all("tokens"))
    await sessions.insert_one({"_id": "ses_1", "principal_id": user["_id"]})
    await tokens.insert_one({"_id": "tok_1", "owner_id": user["_id"], "hash": "x"})
    await decide(api, customer, "deactivate", user, expect=200)
    assert await state_of(api, user) == "deactivated"
    assert (await api.all("sessions"), len(await api.all("tokens"))) == ([], before)
    # The addresses stay: mail flows.
    assert len(await api.all("addresses")) == 1
    await decide(api, customer, "ignore", user, expect=200)
    assert await state_of(api, user) == "ignored"


@pytest.mark.spec("S13")
async def test_a_decision_on_many_is_made_for_all_or_none(api, customer):
    gone = await put_conflict(api, customer, "gone@acme.com")
    here = await put_user(api, customer, "here@acme.com")
    other = await api.customer("Other")
    foreign = await put_conflict(api, other, "gone@other.com")
    refused = (await decide(api, customer, "delete", gone, here, expect=409)).json()
    assert (refused["code"], refused["results"]) == (
        "wrong-state", [{"user_id": here["_id"], "code": "wrong-state"}],
    )  # fmt: skip
    refused = (await decide(api, customer, "delete", gone, foreign, expect=404)).json()
    assert refused["results"] == [{"user_id": foreign["_id"], "code": "not-found"}]
    assert await state_of(api, gone) == "flagged"
    assert await state_of(api, foreign) == "flagged"
    assert await api.events("UserDeleted") == []
    for body in (
        {"action": "delete", "user_ids": []}, {"action": "explode", "user_ids": [gone["_id"]]},
        {"action": "delete", "user_ids": [gone["_id"]] * 501}, {"action": "delete"},
    ):  # fmt: skip
        await api.post(f"{customer}/directory/conflicts/actions", body, expect=422)


@pytest.mark.spec("S13", "V3")
async def test_five_hundred_are_decided_on_in_one_step(api, customer):
    users = [await put_conflict(api, customer, f"u{number}@acme.com") for number in range(500)]
    answer = (await decide(api, customer, "deactivate", *users, expect=200)).json()
    assert len(answer["results"]) == 500
    await decide(api, customer, "delete", *users, expect=200)
    assert await api.all("users") == []


@pytest.mark.spec("S13", "U3")
async def test_case_43_the_export_is_safe_in_a_spreadsheet(api, customer):
    formula = "=cmd|' /C calc'!A0"
    await put_conflict(api, customer, "a@acme.com", first_name=formula, last_name='+1,"2"', aliases=("b@acme.com",))
    await put_conflict(api, customer, "c@acme.com", state="ignored", due_at=None, first_name="@x")
    answer = await api.get(f"{customer}/directory/conflicts/export", expect=200)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "conflicts.csv" in answer.headers["content-disposition"]
    assert answer.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert [row["email"] for row in rows] == ["a@acme.com", "c@acme.com"]
    assert (rows[0]["first_name"], rows[0]["last_name"]) == (f"'{formula}", '\'+1,"2"')
    assert (rows[0]["reason"], rows[0]["aliases"], rows[1]["due_at"]) == ("absent", "b@acme.com", "")
    assert rows[0]["due_at"].endswith("Z")
    only = await api.get(f"{customer}/directory/conflicts/export?state=ignored", expect=200)
    assert b"a@acme.com" not in only.content


@pytest.mark.spec("S13")
async def test_an_export_of_many_comes_whole(api, customer):
    for number in range(450):
        await put_conflict(api, customer, f"u{number:03}@acme.com")
    answer = await api.get(f"{customer}/directory/conflicts/export", expect=200)
    rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert [row[0] for row in rows[1:]] == [f"u{number:03}@acme.com" for number in range(450)]
    empty = await api.get(f"{customer}/directory/conflicts/export?search=nobody", expect=200)
    assert empty.content.decode("utf-8-sig").startswith('"email","first_name"')
