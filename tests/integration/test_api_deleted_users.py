"""Deleted users over HTTP: seen while they are kept, and restored (SPEC X2, S15); users without access (T5)."""

import pytest

from postern_api.auth.keys import digest
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures


async def _deleted(api, customer, email="ann@acme.com", *aliases, **fields):
    body = {"email": email, "first_name": "Ann", "last_name": "Lee", "aliases": list(aliases)}
    user = (await api.post(f"{customer}/users", body, expect=201)).json()
    if fields:
        users = api.mongo.collection(Collections.USERS, PLATFORM)
        await users.update_one({"_id": user["id"]}, {"$set": fields})
    await api.delete(f"{customer}/users/{user['id']}", expect=204)
    return user


@pytest.mark.spec("X2", "S15")
async def test_a_deleted_user_comes_back_under_the_same_id_with_addresses_and_an_event(api):
    customer = await api.customer()
    await api.verified(customer, "acme.com")
    user = await _deleted(api, customer, "ann@acme.com", "a.lee@acme.com")
    (listed,) = (await api.get(f"{customer}/deleted-users", expect=200)).json()["items"]
    assert (listed["id"], listed["email"], listed["aliases"]) == (user["id"], "ann@acme.com", ["a.lee@acme.com"])
    restored = (await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=200)).json()
    assert (restored["id"], restored["state"], restored["aliases"]) == (user["id"], "active", ["a.lee@acme.com"])
    assert (await api.get(f"{customer}/users/{user['id']}", expect=200)).json() == restored
    assert (await api.get(f"{customer}/deleted-users", expect=200)).json()["items"] == []
    assert {entry["key"] for entry in await api.all("addresses")} == {"ann@acme.com", "a.lee@acme.com"}
    assert [event["subject"] for event in await api.events("UserRestored")] == [user["id"]]
    await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=404)


@pytest.mark.spec("S15", "S2")
async def test_a_user_of_a_directory_comes_back_as_one_entered_by_hand(api):
    customer = await api.customer()
    await api.verified(customer, "acme.com")
    user = await _deleted(api, customer, source="ldap", external_id="guid-1", directory_state="absent")
    restored = (await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=200)).json()
    assert restored["source"] == "manual"
    (stored,) = await api.all("users")
    assert (stored["external_id"], stored["directory_state"]) == (None, None)


@pytest.mark.spec("S15", "S3")
async def test_a_user_comes_back_without_what_is_gone_or_somebody_elses_by_now(api):
    customer = await api.customer()
    await api.verified(customer, "acme.com")
    user = await _deleted(api, customer, external_id="guid-1", external_id_kind="objectGUID", site_id="sit_gone")
    other = (await api.post(f"{customer}/users", {"email": "b@acme.com", "first_name": "B", "last_name": "L"})).json()
    users = api.mongo.collection(Collections.USERS, PLATFORM)
    await users.update_one({"_id": other["id"]}, {"$set": {"external_id": "guid-1"}})
    restored = (await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=200)).json()
    assert (restored["state"], restored["site_id"]) == ("active", None)
    found = {one["_id"]: one["external_id"] for one in await api.all("users")}
    assert found == {user["id"]: None, other["id"]: "guid-1"}


@pytest.mark.spec("U4")
async def test_addresses_that_others_got_meanwhile_stay_theirs(api):
    customer, other = await api.customer("One"), await api.customer("Two")
    await api.verified(customer, "acme.com")
    user = await _deleted(api, customer, "ann@acme.com", "sales@acme.com")
    await api.post(f"{customer}/users", {"email": "sales@acme.com", "first_name": "B", "last_name": "L"}, expect=201)
    restored = (await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=200)).json()
    assert restored["aliases"] == []
    taken = await _deleted(api, customer, "cat@acme.com")
    await api.post(f"{customer}/users", {"email": "cat@acme.com", "first_name": "C", "last_name": "L"}, expect=201)
    problem = (await api.post(f"{customer}/deleted-users/{taken['id']}/restore", expect=409)).json()
    assert problem["code"] == "address-taken"
    await api.post(f"{other}/deleted-users/{taken['id']}/restore", expect=404)
    assert (await api.get(f"{other}/deleted-users", expect=200)).json()["items"] == []


@pytest.mark.spec("T6", "X2")
async def test_a_restore_needs_a_licence_and_the_domain_and_comes_in_time(api):
    customer = await api.customer(allowed_users=1)
    await api.verified(customer, "acme.com")
    user = await _deleted(api, customer)
    await api.post(f"{customer}/users", {"email": "bob@acme.com", "first_name": "B", "last_name": "L"}, expect=201)
    problem = (await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=409)).json()
    assert problem["code"] == "licence-limit"
    await api.delete(f"{customer}/domains/acme.com", expect=204)
    problem = (await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=422)).json()
    assert problem["code"] == "domain-not-managed"
    with api.later(days=31):
        await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=404)
        assert (await api.get(f"{customer}/deleted-users", expect=200)).json()["items"] == []


@pytest.mark.spec("T5")
@pytest.mark.parametrize(("state", "status"), [("active", 200), ("flagged", 401), ("deactivated", 401), (None, 401)])
async def test_a_token_of_a_user_without_access_is_worth_nothing(api, state, status):
    customer = await api.customer()
    await api.verified(customer, "acme.com")
    body = {"email": "ann@acme.com", "first_name": "Ann", "last_name": "Lee"}
    user = (await api.post(f"{customer}/users", body, expect=201)).json()
    text = await api.token_for(customer, "customer_auditor")
    tokens = api.mongo.collection(Collections.TOKENS, PLATFORM)
    await tokens.update_one({"hash": digest(text)}, {"$set": {"owner_id": user["id"]}})
    users = api.mongo.collection(Collections.USERS, PLATFORM)
    if state is None:
        await users.delete_one({"_id": user["id"]})
    else:
        await users.update_one({"_id": user["id"]}, {"$set": {"state": state}})
    assert (await api.get(f"{customer}/users", token=text)).status_code == status


@pytest.mark.spec("T2", "U4")
async def test_a_restore_in_a_pending_domain_tells_nothing_of_what_another_customer_has(api):
    holder, claimant = await api.customer("One"), await api.customer("Two")
    await api.verified(holder, "acme.com")
    body = {"first_name": "A", "last_name": "L"}
    await api.post(f"{holder}/users", {"email": "ceo@acme.com", "aliases": ["secret@acme.com"], **body}, expect=201)
    await api.post(f"{claimant}/domains", {"name": "acme.com"}, expect=201)
    answers = []
    for email, alias in (("ceo@acme.com", "secret@acme.com"), ("nobody@acme.com", "guess@acme.com")):
        user = await _deleted(api, claimant, email, alias)
        restored = (await api.post(f"{claimant}/deleted-users/{user['id']}/restore", expect=200)).json()
        answers.append(len(restored["aliases"]))
    assert answers == [1, 1]
