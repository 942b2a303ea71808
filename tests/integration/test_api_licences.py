"""What counts as a licence, and how many are left."""

import pytest

from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import put_conflict, put_user


@pytest.mark.spec("T6", "S10")
async def test_users_cost_a_licence_and_other_mailboxes_none(api):
    customer = await api.customer(allowed_users=5)
    await put_user(api, customer, "ann@acme.com", aliases=("a@acme.com", "b@acme.com"))
    await put_conflict(api, customer, "gone@acme.com")
    for number, kind in enumerate(("shared", "resource", "list", "list", "public_folder")):
        await put_user(api, customer, f"m{number}@acme.com", kind=kind)
    await put_user(api, await api.customer("Other"), "eve@other.com")
    shown = (await api.get(f"{customer}/licences", expect=200)).json()
    assert (shown["allowed"], shown["used"], shown["left"]) == (5, 2, 3)
    assert shown["not_counted"] == {"shared": 1, "resource": 1, "list": 2, "public_folder": 1}


@pytest.mark.spec("T6")
async def test_there_may_be_no_limit_or_one_that_is_passed_already(api):
    customer = await api.customer()
    await put_user(api, customer, "ann@acme.com")
    shown = (await api.get(f"{customer}/licences", expect=200)).json()
    assert (shown["allowed"], shown["used"], shown["left"]) == (None, 1, None)
    await api.patch(customer, {"allowed_users": 0}, expect=200)
    assert (await api.get(f"{customer}/licences", expect=200)).json()["left"] == 0
