"""Removed domains against what was decided on users, and their way back (SPEC D1, D8, S13; BEHAVIOURS 1H 6, 12, 13)."""

import pytest

from postern_common.documents import Collections
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import put_conflict


@pytest.mark.spec("D8", "S13", "S14a")
async def test_1h_6_who_is_ignored_or_deactivated_goes_with_the_domain(api):
    customer = await api.customer()
    for domain in ("acme.com", "other.com"):
        await api.verified(customer, domain)
        for state in ("ignored", "deactivated"):
            await put_conflict(api, customer, f"{state}@{domain}", state=state, due_at=None)
    await api.delete(f"{customer}/domains/acme.com", expect=204)
    assert {user["email"] for user in await api.all("users")} == {"ignored@other.com", "deactivated@other.com"}
    found = (await api.get(f"{customer}/directory/conflicts", expect=200)).json()["items"]
    assert {one["email"] for one in found} == {"ignored@other.com", "deactivated@other.com"}


@pytest.mark.spec("U4", "S14a")
async def test_1h_12_a_user_may_be_prepared_in_a_domain_that_is_not_verified_and_takes_no_mail(api):
    customer = await api.customer()
    await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    body = {"email": "ann@acme.com", "first_name": "Ann", "last_name": "Lee"}
    await api.post(f"{customer}/users", body, expect=201)
    assert [address["verified"] for address in await api.all("addresses")] == [False]


@pytest.mark.spec("D1", "D8", "S14a")
async def test_1h_13_a_domain_that_is_added_again_is_new_and_its_deleted_users_can_be_prepared_there(api):
    customer = await api.customer()
    first = await api.verified(customer, "acme.com")
    body = {"email": "ann@acme.com", "first_name": "Ann", "last_name": "Lee"}
    user = (await api.post(f"{customer}/users", body, expect=201)).json()
    await api.delete(f"{customer}/domains/acme.com", expect=204)
    again = (await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)).json()
    assert again["state"] == "pending"
    assert again["verification"]["record"]["value"] != first["verification"]["record"]["value"]
    assert await api.all(Collections.USERS) == []
    await api.post(f"{customer}/deleted-users/{user['id']}/restore", expect=200)
    assert [address["verified"] for address in await api.all("addresses")] == [False]
