"""What the seven days before a deletion bind, and what acts at once (SPEC S9, X3, D8; BEHAVIOURS 1H 3)."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import put_conflict

pytestmark = pytest.mark.spec("S9", "S14a")


async def flagged_users(api):
    """A customer with two domains and a user flagged by a run in each, due in a week."""
    customer = await api.customer()
    due_at = datetime.now(UTC) + timedelta(days=7)
    for domain in ("acme.com", "other.com"):
        await api.verified(customer, domain)
    return customer, [
        await put_conflict(api, customer, f"ann@{domain}", due_at=due_at) for domain in ("acme.com", "other.com")
    ]


@pytest.mark.spec("X3", "S13")
async def test_1h_3_deleting_a_conflict_waits_for_no_delay(api):
    customer, (ann, other) = await flagged_users(api)
    body = {"action": "delete", "user_ids": [ann["_id"]]}
    await api.post(f"{customer}/directory/conflicts/actions", body, expect=200)
    assert [user["_id"] for user in await api.all("users")] == [other["_id"]]


@pytest.mark.spec("D8")
async def test_1h_3_removing_a_domain_waits_for_no_delay(api):
    customer, (_, other) = await flagged_users(api)
    await api.delete(f"{customer}/domains/acme.com", expect=204)
    assert [user["_id"] for user in await api.all("users")] == [other["_id"]]


@pytest.mark.spec("X1")
async def test_1h_3_a_deletion_that_happens_by_itself_is_never_sooner_than_seven_days(api):
    customer, (ann, _) = await flagged_users(api)
    path = f"{customer}/users/{ann['_id']}"
    await api.post(f"{path}/unflag", expect=200)
    soon = {"due_at": (datetime.now(UTC) + timedelta(days=6)).isoformat()}
    assert (await api.post(f"{path}/flag", soon, expect=422)).json()["code"] == "deletion-too-soon"
    await api.patch(customer, {"deletion_delay_days": 6}, expect=422)
    shown = (await api.post(f"{path}/flag", expect=200)).json()
    wait = datetime.fromisoformat(shown["due_at"]) - datetime.fromisoformat(shown["flagged_at"])
    assert wait == timedelta(days=7)
