"""A customer changes the deletion delay while users are flagged (SPEC S9, S14a, X3, X4; BEHAVIOURS 1H 4 and 8)."""

import asyncio
from datetime import timedelta

import pytest

from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_deletion.delays.batches import Delays
from postern_deletion.store import UserStore
from postern_deletion.sweep import Sweep
from postern_deletion.warnings import Warnings
from tests.servers.stored import Stored, connect

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
FLAGGED = "UserFlaggedForDeletion"


@pytest.fixture
async def stored(mongo_uri, database):
    mongo = connect(mongo_uri, database, Clock())
    await mongo.ensure_indexes()
    yield Stored(mongo)
    mongo.close()


@pytest.fixture
async def now(stored):
    found = await stored.mongo.now()
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


async def flagged(stored, customer_id, email="ann@demo.test", *, at, delay, **fields):
    """A user whom a run flagged then, under that delay."""
    due_at = None if delay is None else at + delay * DAY
    state = {"state": "flagged", "flagged_at": at, "due_at": due_at, "flag_reason": "absent", "due_by": "delay"}
    return await stored.user(email, customer_id=customer_id, verified=True, **(state | fields))


async def changed(stored, days, at, **fields):
    """A customer who chose that delay then, as the API leaves it."""
    return (await stored.customer(deletion_delay_days=days, delay_changed_at=at, **fields))["_id"]


async def work(stored, **options):
    while await Delays(stored.mongo, **options).work():
        pass


async def user_of(stored, user):
    return await stored.get(Collections.USERS, user["_id"])


async def told(stored):
    """The due times of the events, by user."""
    found = [entry for entry in await stored.all(Collections.OUTBOX) if entry["name"] == FLAGGED]
    return {entry["envelope"]["subject"]: entry["envelope"]["data"]["due_at"] for entry in found}


@pytest.mark.spec("S9", "S14a")
@pytest.mark.parametrize(
    ("flagged_before", "old", "new", "due_in"),
    [
        (2 * DAY, 7, 30, 28 * DAY),
        (2 * DAY, 30, 14, 12 * DAY),
        (13 * DAY, 30, 7, DAY),  # the time is over by the new delay: a day is left all the same
        (7 * DAY - HOUR, 30, 7, DAY),
        (40 * DAY, None, 14, DAY),
        (DAY, None, 14, 13 * DAY),
        (6 * DAY, 7, None, None),
    ],
)
async def test_1h_8_a_changed_delay_counts_from_the_flag_and_leaves_a_day(
    stored, now, flagged_before, old, new, due_in
):
    customer = await changed(stored, new, now)
    user = await flagged(stored, customer, at=now - flagged_before, delay=old)
    await work(stored)
    moved = await user_of(stored, user)
    assert moved["due_at"] == (None if due_in is None else now + due_in)
    assert moved["flagged_at"] == user["flagged_at"]
    assert (moved["version"], moved["state"]) == (user["version"] + 1, "flagged")
    assert list(await told(stored)) == [user["_id"]]
    assert "delay_changed_at" not in await stored.get(Collections.CUSTOMERS, customer)


@pytest.mark.spec("S9", "V3")
async def test_only_users_whose_due_time_follows_the_delay_move(stored, now):
    customer = await changed(stored, 30, now)
    moves = await flagged(stored, customer, at=now - DAY, delay=7)
    old = await flagged(stored, customer, "old@demo.test", at=now - DAY, delay=7)
    await stored.mongo.db[Collections.USERS.value].update_one({"_id": old["_id"]}, {"$unset": {"due_by": ""}})
    stay = [
        await flagged(stored, customer, "dated@demo.test", at=now - DAY, delay=9, due_by="date"),
        await flagged(stored, customer, "same@demo.test", at=now - DAY, delay=30),
        await flagged(stored, customer, "ignored@demo.test", at=now - DAY, delay=None, state="ignored"),
        await flagged(stored, (await stored.customer())["_id"], "other@other.test", at=now - DAY, delay=7),
    ]
    await work(stored)
    assert set(await told(stored)) == {moves["_id"], old["_id"]}
    for user in stay:
        found = await user_of(stored, user)
        assert (found["due_at"], found["version"]) == (user["due_at"], user["version"])


@pytest.mark.spec("S9", "X4")
async def test_many_users_move_once_each_whoever_works_and_whoever_dies(stored, now):
    customer = await changed(stored, 14, now)
    users = [await flagged(stored, customer, f"user{n}@demo.test", at=now - n * HOUR, delay=7) for n in range(23)]
    await Delays(stored.mongo, batch=5).work()
    dying = Delays(stored.mongo, batch=5)
    reached = asyncio.Event()

    async def hang(*_arguments):
        reached.set()
        await asyncio.Event().wait()

    setattr(dying._store, "move", hang)  # noqa: B010 - a method
    task = asyncio.create_task(dying.work())
    await asyncio.wait_for(reached.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(await told(stored)) == 5
    await asyncio.gather(*(work(stored, batch=5) for _ in range(3)))
    events = await stored.events(FLAGGED)
    assert sorted(subject for _, subject in events) == sorted(user["_id"] for user in users)
    for user in await stored.all(Collections.USERS):
        assert user["due_at"] == user["flagged_at"] + 14 * DAY


@pytest.mark.spec("S9", "X4")
async def test_a_delay_that_is_changed_again_meanwhile_wins(stored, now):
    customer = await changed(stored, 14, now - HOUR)
    for n in range(4):
        await flagged(stored, customer, f"user{n}@demo.test", at=now - DAY, delay=7)
    assert await Delays(stored.mongo, batch=2).work()
    await stored.set(Collections.CUSTOMERS, customer, deletion_delay_days=None, delay_changed_at=now)
    await work(stored, batch=2)
    assert {user["due_at"] for user in await stored.all(Collections.USERS)} == {None}


@pytest.mark.spec("S9", "X3")
@pytest.mark.parametrize("days", [14, None])
async def test_nobody_goes_by_the_old_delay_while_the_new_one_is_not_worked_off(stored, now, days):
    customer = await changed(stored, days, now)
    user = await flagged(stored, customer, at=now - 8 * DAY, delay=7)
    dated = await flagged(stored, customer, "dated@demo.test", at=now - 8 * DAY, delay=7, due_by="date")
    sweep = Sweep(UserStore(stored.mongo))

    async def asleep():
        return False

    setattr(sweep._delays, "work", asleep)  # noqa: B010 - a method
    assert await sweep.sweep() == 1
    assert [one["_id"] for one in await stored.all(Collections.USERS)] == [user["_id"]]
    assert [one["_id"] for one in await stored.all(Collections.DELETED_USERS)] == [dated["_id"]]


@pytest.mark.spec("S9")
async def test_a_sweep_moves_due_times_before_it_deletes(stored, now):
    customer = await changed(stored, 7, now)
    user = await flagged(stored, customer, at=now - 20 * DAY, delay=30)
    assert await Sweep(UserStore(stored.mongo)).sweep() == 0
    assert (await user_of(stored, user))["due_at"] == now + DAY


@pytest.mark.spec("S9", "X3")
async def test_a_moved_due_time_is_warned_of_anew(stored, now):
    customer = (await stored.customer())["_id"]
    user = await flagged(stored, customer, at=now - 6.5 * DAY, delay=7)
    assert await Warnings(UserStore(stored.mongo)).look() == 1
    await stored.set(Collections.CUSTOMERS, customer, deletion_delay_days=14, delay_changed_at=now)
    other = await flagged(stored, customer, "bob@demo.test", at=now - 5 * DAY, delay=7)
    assert await Warnings(UserStore(stored.mongo)).look() == 0
    await work(stored)
    assert (await user_of(stored, other))["due_at"] == now + 9 * DAY
    assert await Warnings(UserStore(stored.mongo)).look() == 0
    await stored.set(Collections.USERS, user["_id"], flagged_at=now - 13.4 * DAY, due_at=now + 0.6 * DAY)
    assert await Warnings(UserStore(stored.mongo)).look() == 1


@pytest.mark.spec("X3")
async def test_1h_4_under_never_a_flagged_user_stays_flagged_for_ever(stored, now):
    customer = (await stored.customer(deletion_delay_days=None))["_id"]
    user = await flagged(stored, customer, at=now - 3650 * DAY, delay=None)
    assert await Sweep(UserStore(stored.mongo)).sweep() == 0
    assert (await user_of(stored, user))["state"] == "flagged"
