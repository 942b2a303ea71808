"""Deletion schedulers as processes: woken by the event, killed at any moment, several at once."""

import asyncio
from datetime import timedelta

import httpx2
import pytest

from postern_common.documents import Collections
from postern_common.events import UserFlaggedForDeletion
from postern_local.mongod import TRANSACTION_SECONDS
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.servers.publisher import publishing
from tests.servers.stack import Stack
from tests.servers.stored import Stored, connect
from tests.servers.waiting import eventually_async

USERS, DELETED = Collections.USERS, Collections.DELETED_USERS
PAST = timedelta(days=-1)
COUNT = 60


@pytest.fixture
def surroundings(farm):
    """A database and a broker for schedulers that sweep by themselves once an hour only."""
    around = Stack(farm, settings={"POSTERN_DELETION_POLL_SECONDS": "3600"})
    yield around
    around.close()


@pytest.fixture
async def stored(surroundings):
    mongo = connect(surroundings.farm.mongo_uri(), surroundings.database)
    await mongo.ensure_indexes()
    # The transaction of a killed client holds its user until the database ends it.
    await mongo.client.admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": 3})
    yield Stored(mongo)
    await mongo.client.admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": TRANSACTION_SECONDS})
    mongo.close()


async def flagged(stored, email, due_in=PAST, **fields):
    now = await stored.mongo.now()
    due_at = None if due_in is None else now + due_in
    return await stored.user(email, customer_id="cus_1", **({"state": "flagged", "due_at": due_at} | fields))


def event(user):
    return UserFlaggedForDeletion(
        customer_id=user["customer_id"], user_id=user["_id"], due_at=user["due_at"], reason="absent"
    )


@pytest.mark.spec("X1", "X2", "V3")
async def test_the_event_wakes_the_scheduler_and_may_come_twice_late_or_out_of_order(stored, surroundings):
    await asyncio.to_thread(surroundings.start, "deletion")
    async with publishing(surroundings.farm, surroundings.vhost, stored.mongo) as publisher:
        due, later = await flagged(stored, "ann@demo.test"), await flagged(stored, "bob@demo.test", -PAST)
        never = await flagged(stored, "cy@demo.test", None)
        back = await flagged(stored, "di@demo.test", state="active", due_at=None)
        gone = due | {"_id": "usr_gone"}
        late = back | {"due_at": due["due_at"]}  # its UserUnflagged overtook it
        sent = [await publisher.send(event(user), times=2) for user in (due, later, never, late, gone)]
        await publisher.processed("deletion-scheduler", *sent)

        async def deleted():
            return [kept["_id"] for kept in await stored.all(DELETED)] == [due["_id"]]

        await eventually_async(deleted)
        await publisher.settled("deletion-scheduler")
    assert {user["_id"] for user in await stored.all(USERS)} == {later["_id"], never["_id"], back["_id"]}
    assert await stored.events("UserDeleted") == [("UserDeleted", due["_id"])]
    metrics = httpx2.get(f"{surroundings.ops_url('deletion')}/metrics", trust_env=False).text
    assert "postern_deletion_users_deleted_total 1.0" in metrics


@pytest.mark.spec("X4")
async def test_schedulers_killed_at_any_moment_delete_each_user_once(stored, surroundings):
    users = {(await flagged(stored, f"user{number}@demo.test"))["_id"] for number in range(COUNT)}
    services = [
        surroundings.surroundings.service("deletion", f"deletion-{number}", port, POSTERN_DELETION_POLL_SECONDS="0.1")
        for number, port in enumerate(free_ports(3))
    ]
    units = [Unit(service, surroundings.farm.processes) for service in services]

    async def left():
        return len(await stored.all(USERS))

    for number, unit in enumerate(units):
        unit.launch()
        remaining = COUNT - COUNT // 4 * (number + 1)

        async def worked(remaining=remaining):
            return await left() <= remaining

        await eventually_async(worked, timeout=30, pause=0.01)
        if number < 2:
            unit.kill()
    extra = surroundings.units["deletion"]
    extra.launch()

    async def done():
        return await left() == 0

    await eventually_async(done, timeout=30)
    for unit in [*units, extra]:
        await asyncio.to_thread(unit.stop)
    assert {kept["_id"] for kept in await stored.all(DELETED)} == users
    assert sorted(subject for _, subject in await stored.events("UserDeleted")) == sorted(users)
    assert await stored.all(Collections.ADDRESSES) == []
