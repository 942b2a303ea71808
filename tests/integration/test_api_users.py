"""Users by hand: addresses, licences, the flag of deletion."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from postern_deletion.delays.batches import Delays
from tests.servers.api import api, customer, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import ldap, put_user, set_up, settings
from tests.servers.stored import Stored


def user(email="ann@acme.com", *aliases, **fields):
    return {"email": email, "first_name": "Ann", "last_name": "Lee", "aliases": list(aliases)} | fields


async def add(api, customer, *arguments, **fields):
    return (await api.post(f"{customer}/users", user(*arguments, **fields), expect=201)).json()


@pytest.mark.spec("U2")
async def test_a_user_has_fields_and_settings_of_their_own(api, customer):
    site = (await api.post(f"{customer}/sites", {"servers": [{"host": "127.0.0.9"}]}, expect=201)).json()
    body = user(
        "Ann.Lee@ACME.com", "ann@acme.com", mobile="+44 7700 900000", notes="line one\nline two", site_id=site["id"],
        settings={"quarantine": {"digest": "daily"}, "filtering": {"spam": "tag"}},
    )  # fmt: skip
    answer = await api.post(f"{customer}/users", body, expect=201)
    made = answer.json()
    assert answer.headers["Location"] == f"{customer}/users/{made['id']}"
    assert made["email"] == "Ann.Lee@acme.com"
    assert made["source"] == "manual"
    assert made["aliases"] == ["ann@acme.com"]
    assert made["settings"] == {
        "quarantine": {"digest": "daily", "release": "inherit"}, "filtering": {"spam": "tag"},
    }  # fmt: skip
    assert made["addresses"][0] == {"address": "Ann.Lee@acme.com", "is_primary": True, "source": "manual"}
    assert (await api.get(f"{customer}/users/{made['id']}", expect=200)).json() == made
    assert (await api.events("UserAdded"))[0]["subject"] == made["id"]
    missing = (await api.post(f"{customer}/users", {"email": "x@acme.com"}, expect=422)).json()
    assert {error["pointer"] for error in missing["errors"]} == {"/first_name", "/last_name"}


@pytest.mark.spec("U4")
async def test_case_42_an_address_is_used_once_in_any_spelling(api, customer):
    ann = await add(api, customer, "ann@acme.com", "a@acme.com")
    for body in (user("ANN@Acme.com"), user("A@acme.com"), user("bob@acme.com", "Ann@acme.com")):
        problem = (await api.post(f"{customer}/users", body, expect=409)).json()
        assert problem["code"] == "address-taken"
        assert problem["existing"] == {"user_id": ann["id"]}
    for body in (user("bob@acme.com", "BOB@acme.com"), user("bob@acme.com", "b@acme.com", "B@acme.com")):
        problem = (await api.post(f"{customer}/users", body, expect=409)).json()
        assert problem["code"] == "address-taken"
        assert problem["errors"][0]["pointer"].startswith("/aliases/")
    assert len(await api.all("users")) == 1
    assert len(await api.all("addresses")) == 2


@pytest.mark.spec("U4")
async def test_case_70_fifty_parallel_users_of_one_address_are_one(api, customer):
    answers = await asyncio.gather(*(api.post(f"{customer}/users", user()) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 49
    assert len(await api.all("users")) == 1
    assert len(await api.all("addresses")) == 1


@pytest.mark.spec("U4")
async def test_addresses_in_a_pending_domain_are_prepared_for_this_customer_only(api, customer):
    other = await api.customer("Other")
    for path in (customer, other):
        await api.post(f"{path}/domains", {"name": "new.com"}, expect=201)
        await add(api, path, "ann@new.com")
    assert {address["verified"] for address in await api.all("addresses")} == {False}
    await add(api, customer, "bob@acme.com", "bob@new.com")
    states = {address["key"]: address["verified"] for address in await api.all("addresses")}
    assert states["bob@acme.com"] is True
    assert states["bob@new.com"] is False


@pytest.mark.spec("U4")
async def test_an_address_verified_elsewhere_is_taken_without_telling_whose(api, customer):
    other = await api.customer("Other")
    await add(api, customer, "ann@acme.com")
    await api.post(f"{other}/domains", {"name": "acme.com"}, expect=201)
    prepared = await add(api, other, "ann@acme.com")
    assert prepared["state"] == "active"
    refused = (await api.post(f"{other}/users", user("x@nowhere.com"), expect=422)).json()
    assert refused["code"] == "domain-not-managed"
    assert refused["errors"][0]["pointer"] == "/email"
    refused = (await api.post(f"{other}/users", user("b@acme.com", "x@nowhere.com"), expect=422)).json()
    assert refused["errors"][0]["pointer"] == "/aliases/0"


async def test_case_55_line_ends_and_controls_are_refused_everywhere(api, customer):
    for field in ("email", "first_name", "last_name", "company", "mobile"):
        for bad in ("a\r\nRCPT TO:<x@y>", "a\x00b", "a\x1bb"):
            problem = (await api.post(f"{customer}/users", user(**{field: bad}), expect=422)).json()
            assert problem["errors"][0]["pointer"] == f"/{field}"
    raw = b'{"email":"ann@acme.com","first_name":"\\ud800","last_name":"x"}'
    json_type = {"Content-Type": "application/json"}
    await api.call("POST", f"{customer}/users", content=raw, headers=json_type, expect=422)
    await api.post(f"{customer}/users", user(aliases=["a\r\nDATA@acme.com"]), expect=422)
    await api.post(f"{customer}/domains", {"name": "acme.com\r\nX: y"}, expect=422)


@pytest.mark.spec("T6")
async def test_licences_bound_the_number_of_users(api):
    customer = await api.customer(allowed_users=2)
    await api.verified(customer, "acme.com")
    answers = await asyncio.gather(*(api.post(f"{customer}/users", user(f"u{n}@acme.com")) for n in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409, 409]
    problem = next(answer.json() for answer in answers if answer.status_code == 409)
    assert problem["code"] == "licence-limit"
    await api.patch(customer, {"allowed_users": 3}, expect=200)
    await add(api, customer, "u9@acme.com", "alias@acme.com")


@pytest.mark.spec("U1")
async def test_users_are_searched_filtered_sorted_and_paged(api, customer):
    await api.verified(customer, "other.com")
    await add(api, customer, "zoe@acme.com", first_name="Zoë", last_name="Adams")
    await add(api, customer, "ann@acme.com", "sales@other.com", last_name="Zimmer")
    await add(api, customer, "bob@other.com", first_name="Bob")

    async def emails(query):
        found = (await api.get(f"{customer}/users?{query}", expect=200)).json()["items"]
        return [one["email"].split("@")[0] for one in found]

    assert await emails("") == ["ann", "bob", "zoe"]
    assert await emails("sort=-last_name") == ["ann", "bob", "zoe"]
    assert await emails("sort=first_name") == ["ann", "bob", "zoe"]
    assert await emails("search=zo%C3%AB") == ["zoe"]
    assert await emails("search=SALES") == ["ann"]
    assert await emails("search=.*") == []
    assert await emails("domain=OTHER.com") == ["bob"]
    assert await emails("source=manual&state=active&kind=user") == ["ann", "bob", "zoe"]
    assert await emails("source=ldap") == []
    assert await emails("email=Sales@Other.com") == ["ann"]
    assert await emails("email=nobody@other.com") == []
    page = (await api.get(f"{customer}/users?limit=2&sort=last_name", expect=200)).json()
    rest = (await api.get(f"{customer}/users?limit=2&sort=last_name&cursor={page['next_cursor']}", expect=200)).json()
    assert [one["last_name"] for one in page["items"] + rest["items"]] == ["Adams", "Lee", "Zimmer"]
    assert rest["next_cursor"] is None
    for moved in ("sort=email", "sort=last_name&state=active", "sort=-last_name"):
        await api.get(f"{customer}/users?{moved}&cursor={page['next_cursor']}", expect=422)
    for forged in ("x", "a.b", "%00", page["next_cursor"][:-2] + "AA"):
        await api.get(f"{customer}/users?sort=last_name&cursor={forged}", expect=422)


@pytest.mark.spec("U2")
async def test_a_patch_changes_what_it_names_and_moves_addresses(api, customer):
    made = await add(api, customer, "ann@acme.com", "a@acme.com", "b@acme.com", mobile="1")
    path = f"{customer}/users/{made['id']}"
    await api.call("PATCH", path, {"mobile": "2"}, expect=428)
    changed = await api.patch(path, {"mobile": "2", "settings": {"filtering": {"spam": "off"}}}, tag='"1"', expect=200)
    assert changed.json() == made | {
        "mobile": "2",
        "settings": {"quarantine": {"digest": "inherit", "release": "inherit"}, "filtering": {"spam": "off"}},
        "updated_at": changed.json()["updated_at"],
    }
    await api.patch(path, {"mobile": "3"}, tag='"1"', expect=412)
    moved = (
        await api.patch(path, {"email": "a@acme.com", "aliases": ["ann@acme.com", "c@acme.com"]}, expect=200)
    ).json()
    assert (moved["email"], moved["aliases"]) == ("a@acme.com", ["ann@acme.com", "c@acme.com"])
    addresses = {address["key"]: address["is_primary"] for address in await api.all("addresses")}
    assert addresses == {"a@acme.com": True, "ann@acme.com": False, "c@acme.com": False}
    assert (await api.events("UserUpdated"))[-1]["data"]["fields"] == ["aliases", "email"]
    await add(api, customer, "b@acme.com")
    await api.patch(path, {"aliases": ["b@acme.com"]}, expect=409)
    await api.patch(path, {"email": None}, expect=422)
    await api.patch(path, {"first_name": None}, expect=422)
    await api.patch(path, {"source": "ldap"}, expect=422)
    assert (await api.get(path, expect=200)).json() == moved


@pytest.mark.spec("S2", "S3", "U2")
async def test_what_a_directory_has_of_its_users_is_not_changed_here(api, customer):
    await set_up(api, customer)
    common = {"external_id": "42", "directory_state": "present", "notes": "x"}
    user = await put_user(api, customer, "ann@acme.com", aliases=("a@acme.com",), **common)
    stored = [{"address": "a@acme.com", "key": "a@acme.com", "source": "ldap"}]
    await Stored(api.mongo).set(Collections.USERS, user["_id"], aliases=stored)
    path = f"{customer}/users/{user['_id']}"
    for changes, pointer in (
        ({"first_name": "Eve"}, "/first_name"), ({"mobile": "1"}, "/mobile"), ({"notes": ""}, "/notes"),
        ({"email": "eve@acme.com"}, "/email"), ({"email": "a@acme.com", "aliases": ["ann@acme.com"]}, "/email"),
        ({"aliases": []}, "/aliases"), ({"notes": "x", "department": "Sales"}, "/department"),
    ):  # fmt: skip
        refused = (await api.patch(path, changes, expect=409)).json()
        assert (refused["code"], refused["errors"][0]["pointer"]) == ("directory-has-it", pointer)
    # What the directory has said already, and what it does not know of.
    mine = {"first_name": "Ann", "email": "ann@acme.com", "aliases": ["a@acme.com", "b@acme.com"]}
    changed = (await api.patch(path, mine | {"settings": {"filtering": {"spam": "off"}}}, expect=200)).json()
    assert (changed["aliases"], changed["settings"]["filtering"]["spam"]) == (["a@acme.com", "b@acme.com"], "off")
    await api.patch(path, {"aliases": ["a@acme.com"]}, expect=200)
    unread = settings(ldap=ldap(attributes={"notes": ""}))
    await api.put(f"{customer}/directory", unread, expect=200)
    await api.patch(path, {"notes": "ours"}, expect=200)
    # Nothing puts back what is said of somebody who is gone, or while synchronisation is off.
    await api.patch(path, {"mobile": "1"}, expect=409)
    await Stored(api.mongo).set(Collections.USERS, user["_id"], directory_state="absent")
    await api.patch(path, {"mobile": "1"}, expect=200)
    await Stored(api.mongo).set(Collections.USERS, user["_id"], directory_state="present")
    await api.delete(f"{customer}/directory", expect=204)
    await api.patch(path, {"mobile": "2"}, expect=200)


@pytest.mark.spec("S3")
async def test_users_by_hand_are_changed_here_though_a_directory_supplements_them(api, customer):
    await set_up(api, customer)
    user = await put_user(api, customer, "ann@acme.com", source="manual", directory_state="present")
    await api.patch(f"{customer}/users/{user['_id']}", {"mobile": "1"}, expect=200)


@pytest.mark.spec("X1")
@pytest.mark.spec("T5")
async def test_flagging_says_when_and_unflagging_calls_it_off(api, customer):
    made = await add(api, customer)
    path = f"{customer}/users/{made['id']}"
    await api.mongo.collection(Collections.SESSIONS, PLATFORM).insert_one({"_id": "ses_x", "principal_id": made["id"]})
    flagged = (await api.post(f"{path}/flag", expect=200)).json()
    assert flagged["state"] == "flagged"
    wait = datetime.fromisoformat(flagged["due_at"]) - datetime.fromisoformat(flagged["flagged_at"])
    assert wait == timedelta(days=7)
    assert await api.all("sessions") == []
    event = (await api.events("UserFlaggedForDeletion"))[0]["data"]
    assert event["user_id"] == made["id"]
    assert datetime.fromisoformat(event["due_at"]) - datetime.fromisoformat(flagged["due_at"]) < timedelta(seconds=1)
    assert (await api.post(f"{path}/flag", {}, expect=200)).json() == flagged
    assert [one["id"] for one in (await api.get(f"{customer}/users?state=flagged")).json()["items"]] == [made["id"]]
    back = (await api.post(f"{path}/unflag", expect=200)).json()
    assert back == made | {"updated_at": back["updated_at"]}
    assert len(await api.events("UserUnflagged")) == 1
    await api.post(f"{path}/unflag", expect=409)


@pytest.mark.spec("S9")
async def test_a_deletion_is_never_sooner_than_seven_days(api, customer):
    path = f"{customer}/users/{(await add(api, customer))['id']}/flag"
    now = datetime.now(UTC)
    for days in (0, 1, 6.9):
        soon = (await api.post(path, {"due_at": (now + timedelta(days=days)).isoformat()}, expect=422)).json()
        assert (soon["code"], soon["errors"][0]["pointer"]) == ("deletion-too-soon", "/due_at")
    await api.post(path, {"due_at": "2026-01-01T00:00:00"}, expect=422)
    late = (now + timedelta(days=40)).isoformat()
    due = (await api.post(path, {"due_at": late}, expect=200)).json()["due_at"]
    assert abs(datetime.fromisoformat(due) - datetime.fromisoformat(late)) < timedelta(milliseconds=1)


@pytest.mark.spec("S9")
async def test_never_keeps_a_flagged_user_without_end_and_a_new_delay_counts_from_the_flag(api, customer):
    await api.patch(customer, {"deletion_delay_days": None}, expect=200)
    path = f"{customer}/users/{(await add(api, customer))['id']}"
    flagged = (await api.post(f"{path}/flag", expect=200)).json()
    assert (flagged["state"], flagged["due_at"]) == ("flagged", None)
    await api.patch(customer, {"deletion_delay_days": 14}, expect=200)
    await Delays(api.mongo).work()
    moved = (await api.get(path, expect=200)).json()
    assert moved["flagged_at"] == flagged["flagged_at"]
    wait = datetime.fromisoformat(moved["due_at"]) - datetime.fromisoformat(moved["flagged_at"])
    assert wait == timedelta(days=14)
    with api.later(days=13.5):
        await api.patch(customer, {"deletion_delay_days": 7}, expect=200)
        await Delays(api.mongo).work()
        due = datetime.fromisoformat((await api.get(path, expect=200)).json()["due_at"])
        assert due - api.mongo.clock.now() > timedelta(hours=23)
        times = [event["data"]["due_at"] for event in await api.events("UserFlaggedForDeletion")]
        assert times[0] is None
        assert len(times) == 3
        await api.patch(customer, {"deletion_delay_days": 7, "name": "Same delay"}, expect=200)
        assert not any("delay_changed_at" in one for one in await api.all("customers"))
    await api.patch(customer, {"deletion_delay_days": 8}, expect=422)


@pytest.mark.spec("X2")
async def test_deleting_by_hand_is_at_once_and_keeps_what_restoring_needs(api, customer):
    made = await add(api, customer, "ann@acme.com", "a@acme.com")
    path = f"{customer}/users/{made['id']}"
    await api.call("DELETE", path, expect=428)
    await api.delete(path, tag='"2"', expect=412)
    await api.delete(path, tag='"1"', expect=204)
    await api.delete(path, expect=404)
    assert await api.all("addresses") == []
    (kept,) = await api.all("deleted_users")
    assert kept["user"]["email"] == "ann@acme.com"
    assert kept["purge_at"] - kept["deleted_at"] == timedelta(days=30)
    assert (await api.events("UserDeleted"))[0]["data"]["reason"] == "by hand"
    await add(api, customer, "ann@acme.com")


@pytest.mark.spec("U4")
async def test_no_address_stays_prepared_when_its_domain_is_verified_at_the_same_time(api):
    """The verifier's transaction: the domain becomes verified, and with it the addresses that it sees."""
    customer = await api.customer()
    domains, addresses = (api.mongo.collection(name, PLATFORM) for name in (Collections.DOMAINS, Collections.ADDRESSES))

    async def verify(name):
        async def work(session):
            await domains.update_one({"name": name}, {"$set": {"state": "verified"}}, session=session)
            await addresses.update_many({"domain": name}, {"$set": {"verified": True}}, session=session)

        await api.mongo.transact(work)

    for number in range(12):
        name = f"d{number}.com"
        await api.post(f"{customer}/domains", {"name": name}, expect=201)
        await asyncio.gather(*(add(api, customer, f"u{n}@{name}") for n in range(3)), verify(name))
    assert {address["verified"] for address in await api.all("addresses")} == {True}
    assert len(await api.all("addresses")) == 36
