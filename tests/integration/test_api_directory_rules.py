"""Exceptions and additions over HTTP."""

import asyncio

import pytest

from tests.servers.api import api, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.directory import put_user


@pytest.fixture
async def customer(api):
    """A customer with a verified and a pending domain."""
    path = await api.customer()
    await api.verified(path, "acme.com")
    await api.post(f"{path}/domains", {"name": "pending.com"}, expect=201)
    return path


@pytest.mark.spec("S12")
async def test_exceptions_are_added_shown_changed_and_removed(api, customer):
    path = f"{customer}/directory/exceptions"
    answer = await api.post(path, {"kind": "user", "external_id": "42", "label": "Ann"}, expect=201)
    made = answer.json()
    assert answer.headers["Location"] == f"{path}/{made['id']}"
    assert (made["kind"], made["external_id"], made["address"], made["label"]) == ("user", "42", None, "Ann")
    assert made["created_by"]
    assert (await api.get(f"{path}/{made['id']}", expect=200)).json() == made
    alias = (await api.post(path, {"kind": "alias", "address": "Ann@ACME.com"}, expect=201)).json()
    assert (alias["external_id"], alias["address"]) == (None, "ann@acme.com")
    changed = await api.patch(f"{path}/{made['id']}", {"external_id": "43"}, tag='"1"', expect=200)
    assert (changed.json()["external_id"], changed.json()["label"]) == ("43", "Ann")
    await api.patch(f"{path}/{made['id']}", {"label": "x"}, tag='"1"', expect=412)
    await api.patch(f"{path}/{alias['id']}", {"address": "lee@acme.com"}, expect=200)
    listed = (await api.get(path, expect=200)).json()["items"]
    assert [one["address"] or one["external_id"] for one in listed] == ["43", "lee@acme.com"]
    assert [one["id"] for one in (await api.get(f"{path}?kind=alias&search=LEE")).json()["items"]] == [alias["id"]]
    await api.call("DELETE", f"{path}/{made['id']}", expect=428)
    await api.delete(f"{path}/{made['id']}", expect=204)
    await api.get(f"{path}/{made['id']}", expect=404)
    events = [one["data"] for one in await api.events("SettingsChanged")]
    actions = [event["action"] for event in events if event["resource"] == "directory-exception"]
    assert actions == ["created", "created", "updated", "updated", "deleted"]


@pytest.mark.spec("S12")
async def test_an_exception_without_a_label_goes_by_the_name_of_the_user_who_is_here(api, customer):
    path = f"{customer}/directory/exceptions"
    await put_user(api, customer, "ann@acme.com", external_id="42", first_name="Ann", last_name="Lee")
    await put_user(api, customer, "desk@acme.com", external_id="43", first_name="", last_name="")
    for body, label in (
        ({"external_id": "42"}, "Ann Lee"), ({"external_id": "43"}, "desk@acme.com"), ({"external_id": "44"}, ""),
        ({"external_id": "42", "kind": "group", "label": "hers"}, "hers"),
    ):  # fmt: skip
        assert (await api.post(path, {"kind": "user"} | body, expect=201)).json()["label"] == label


@pytest.mark.spec("S12")
async def test_1h_10_an_exception_is_named_by_what_its_kind_needs(api, customer):
    path = f"{customer}/directory/exceptions"
    for body, pointer in (
        ({"kind": "user"}, "/external_id"), ({"kind": "group", "address": "a@acme.com"}, "/external_id"),
        ({"kind": "user", "external_id": "1", "address": "a@acme.com"}, "/address"), ({"kind": "alias"}, "/address"),
        ({"kind": "alias", "external_id": "1", "address": "a@acme.com"}, "/external_id"),
        ({"kind": "alias", "address": "no address"}, "/address"), ({"kind": "robot", "external_id": "1"}, "/kind"),
        ({"kind": "user", "external_id": " "}, "/external_id"),
    ):  # fmt: skip
        refused = await api.post(path, body, expect=422)
        assert refused.json()["errors"][0]["pointer"] == pointer
    made = (await api.post(path, {"kind": "user", "external_id": "42"}, expect=201)).json()
    await api.patch(f"{path}/{made['id']}", {"address": "a@acme.com"}, expect=422)


@pytest.mark.spec("S12")
async def test_one_thing_is_left_out_once(api, customer):
    path, body = f"{customer}/directory/exceptions", {"kind": "group", "external_id": "7"}
    answers = await asyncio.gather(*(api.post(path, body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    made = next(answer.json() for answer in answers if answer.status_code == 201)
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert (refused["code"], refused["existing"]["id"]) == ("exception-exists", made["id"])
    await api.post(path, {"kind": "user", "external_id": "7"}, expect=201)
    other = (await api.post(path, {"kind": "group", "external_id": "8"}, expect=201)).json()
    assert (await api.patch(f"{path}/{other['id']}", {"external_id": "7"}, expect=409)).json()["existing"] == made


@pytest.mark.spec("S12", "S4")
async def test_additions_are_added_shown_changed_and_removed(api, customer):
    path = f"{customer}/directory/additions"
    answer = await api.post(path, {"address": "Desk@ACME.com", "first_name": "Front", "last_name": "Desk"}, expect=201)
    made = answer.json()
    assert answer.headers["Location"] == f"{path}/{made['id']}"
    assert made["address"] == "Desk@acme.com"
    assert (await api.get(f"{path}/{made['id']}", expect=200)).json() == made
    changed = await api.patch(f"{path}/{made['id']}", {"address": "info@acme.com"}, tag='"1"', expect=200)
    assert (changed.json()["address"], changed.json()["last_name"]) == ("info@acme.com", "Desk")
    await api.post(path, {"address": "alpha@acme.com"}, expect=201)
    listed = (await api.get(path, expect=200)).json()["items"]
    assert [one["address"] for one in listed] == ["alpha@acme.com", "info@acme.com"]
    assert [one["address"] for one in (await api.get(f"{path}?search=desk")).json()["items"]] == ["info@acme.com"]
    await api.delete(f"{path}/{made['id']}", tag='"1"', expect=412)
    await api.delete(f"{path}/{made['id']}", tag='"2"', expect=204)
    await api.get(f"{path}/{made['id']}", expect=404)
    # No user is made by the API: the next run does.
    assert await api.all("users") == []


@pytest.mark.spec("S12", "S4")
async def test_1h_11_an_addition_must_be_in_a_verified_domain_and_belong_to_nobody(api, customer):
    path = f"{customer}/directory/additions"
    for address, code in (
        ("desk@elsewhere.com", "domain-not-managed"), ("desk@pending.com", "domain-not-verified"),
        ("desk", "invalid-address"),
    ):  # fmt: skip
        refused = (await api.post(path, {"address": address}, expect=422)).json()
        assert (refused["code"], refused["errors"][0]["pointer"]) == (code, "/address")
    person = {"email": "ann@acme.com", "first_name": "Ann", "last_name": "Lee", "aliases": ["a@acme.com"]}
    user = (await api.post(f"{customer}/users", person, expect=201)).json()
    for address in ("ANN@acme.com", "a@acme.com"):
        refused = (await api.post(path, {"address": address}, expect=409)).json()
        assert (refused["code"], refused["existing"]) == ("address-taken", {"user_id": user["id"]})
    made = (await api.post(path, {"address": "desk@acme.com"}, expect=201)).json()
    again = (await api.post(path, {"address": "DESK@acme.com"}, expect=409)).json()
    assert (again["code"], again["existing"]) == ("addition-exists", made)
    for address in ("ann@acme.com", "desk@pending.com", "desk@elsewhere.com"):
        await api.patch(f"{path}/{made['id']}", {"address": address})
    assert (await api.get(f"{path}/{made['id']}")).json()["address"] == "desk@acme.com"


@pytest.mark.spec("S12")
async def test_names_of_an_addition_can_change_after_its_user_was_made(api, customer):
    path = f"{customer}/directory/additions"
    made = (await api.post(path, {"address": "desk@acme.com"}, expect=201)).json()
    await api.post(
        f"{customer}/users", {"email": "desk@acme.com", "first_name": "Front", "last_name": "Desk"}, expect=201
    )
    changed = {"address": "Desk@acme.com", "first_name": "Front"}
    assert (await api.patch(f"{path}/{made['id']}", changed, expect=200)).json()["first_name"] == "Front"


async def test_there_are_bounds_on_rules(place):
    async with running_api(place, api_max_directory_rules=1) as api:
        customer = await api.customer()
        await api.verified(customer, "acme.com")
        for path, bodies in (
            ("exceptions", [{"kind": "user", "external_id": "1"}, {"kind": "user", "external_id": "2"}]),
            ("additions", [{"address": "a@acme.com"}, {"address": "b@acme.com"}]),
        ):
            await api.post(f"{customer}/directory/{path}", bodies[0], expect=201)
            refused = await api.post(f"{customer}/directory/{path}", bodies[1], expect=409)
            assert refused.json()["code"] == "limit-reached"
