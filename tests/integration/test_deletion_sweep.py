"""Flagged users go when their delay ends: once, whole, and nobody early (SPEC X1, X2, X4)."""

import asyncio
from datetime import timedelta

import pytest

from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.mongo import ClockSkew, Mongo
from postern_deletion.store import UserStore
from postern_deletion.sweep import Sweep
from tests.servers.stored import Stored, connect, move, stored  # noqa: F401

USERS, ADDRESSES, DELETED = Collections.USERS, Collections.ADDRESSES, Collections.DELETED_USERS
DAY = timedelta(days=1)


def sweep(stored, kind=UserStore, **options):
    return Sweep(kind(stored.mongo), **options)


async def flagged(stored, email="ann@demo.test", *, due_in=-DAY, customer_id=None, **fields):
    now = await stored.mongo.now()
    customer_id = customer_id or (await stored.customer())["_id"]
    due_at = None if due_in is None else now + due_in
    state = {"state": "flagged", "flagged_at": now - 8 * DAY, "due_at": due_at, "flag_reason": "absent"}
    return await stored.user(email, customer_id=customer_id, verified=True, **(state | fields))


async def ids(stored, name):
    return {document["_id"] for document in await stored.all(name)}


@pytest.mark.spec("X2", "V3")
async def test_a_due_user_is_deleted_whole_with_what_restoring_needs_and_an_event(stored):
    user = await flagged(stored, aliases=("a.lee@demo.test",), immutable_id="guid-1")
    other = await stored.user("bob@demo.test", customer_id=user["customer_id"], verified=True)
    assert await sweep(stored).sweep() == 1
    assert await ids(stored, USERS) == {other["_id"]}
    assert {entry["key"] for entry in await stored.all(ADDRESSES)} == {"bob@demo.test"}
    kept = await stored.get(DELETED, user["_id"])
    assert (kept["email_key"], kept["immutable_id"]) == ("ann@demo.test", "guid-1")
    assert kept["user"]["aliases"][0]["address"] == "a.lee@demo.test"
    assert kept["purge_at"] - kept["deleted_at"] == 90 * DAY
    assert await stored.events() == [("UserDeleted", user["_id"])]
    assert await sweep(stored).sweep() == 0


@pytest.mark.spec("X2", "X3", "S13")
async def test_nobody_else_is_deleted(stored):
    customer = (await stored.customer())["_id"]
    stay = [
        await flagged(stored, "never@demo.test", customer_id=customer, due_in=None),
        await flagged(stored, "later@demo.test", customer_id=customer, due_in=timedelta(minutes=1)),
        *[
            await flagged(stored, f"{state}@demo.test", customer_id=customer, state=state)
            for state in ("active", "ignored", "deactivated")
        ],
    ]
    assert await sweep(stored).sweep() == 0
    assert await ids(stored, USERS) == {user["_id"] for user in stay}
    assert await stored.events() == []


@pytest.mark.spec("X2", "S9")
async def test_the_delay_ends_by_the_clock(stored, move):
    user = await flagged(stored, due_in=7 * DAY)
    for days in (0, 6.99):
        move(days * DAY)
        assert await sweep(stored).sweep() == 0
    move(7.01 * DAY)
    assert await sweep(stored).sweep() == 1
    assert (await stored.get(DELETED, user["_id"]))["deleted_at"] > user["due_at"]


@pytest.mark.spec("X2", "T9")
async def test_suspended_and_vanished_customers_are_no_exception(stored):
    suspended = await stored.customer(state="suspended")
    one = await flagged(stored, customer_id=suspended["_id"])
    two = await flagged(stored, "bob@gone.test", customer_id="cus_gone")
    assert await sweep(stored).sweep() == 2
    kept = await stored.get(DELETED, two["_id"])
    assert kept["purge_at"] - kept["deleted_at"] == 30 * DAY
    assert await ids(stored, DELETED) == {one["_id"], two["_id"]}


@pytest.mark.spec("X4")
async def test_many_schedulers_delete_each_user_once(stored):
    customer = (await stored.customer())["_id"]
    users = {(await flagged(stored, f"user{number}@demo.test", customer_id=customer))["_id"] for number in range(80)}
    counts = await asyncio.gather(*(sweep(stored, batch=25).sweep() for _ in range(5)))
    assert sum(counts) == len(users)
    assert await ids(stored, DELETED) == users
    assert sorted(await stored.events()) == sorted(("UserDeleted", user) for user in users)
    assert await stored.all(USERS) == []


@pytest.mark.spec("X4", "S15")
async def test_case_72_a_user_who_comes_back_while_the_sweep_runs_stays(stored):
    user = await flagged(stored)

    class Meanwhile(UserStore):
        async def due(self, now, limit, skip=(), paused=None):
            found = await super().due(now, limit, skip, paused)
            await stored.set(USERS, user["_id"], state="active", due_at=None)
            return found

    assert await sweep(stored, Meanwhile).sweep() == 0
    assert await ids(stored, USERS) == {user["_id"]}
    assert await stored.all(ADDRESSES) != []
    assert await stored.events() == []


@pytest.mark.spec("X4")
async def test_a_delay_made_longer_while_the_sweep_runs_counts(stored):
    user = await flagged(stored)

    class Meanwhile(UserStore):
        async def due(self, now, limit, skip=(), paused=None):
            found = await super().due(now, limit, skip, paused)
            await stored.set(USERS, user["_id"], due_at=now + DAY)
            return found

    assert await sweep(stored, Meanwhile).sweep() == 0
    assert await ids(stored, USERS) == {user["_id"]}


@pytest.mark.spec("X4")
@pytest.mark.parametrize("step", ["customer", "remove_addresses", "keep"])
async def test_a_crash_between_steps_leaves_the_user_whole_for_the_next_sweep(stored, step):
    user = await flagged(stored)
    reached = asyncio.Event()

    async def hang(*arguments):
        reached.set()
        await asyncio.Event().wait()

    class Dying(UserStore):
        pass

    setattr(Dying, step, hang)
    dying = asyncio.create_task(sweep(stored, Dying).sweep())
    await asyncio.wait_for(reached.wait(), 10)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await ids(stored, USERS) == {user["_id"]}
    assert len(await stored.all(ADDRESSES)) == 1
    assert await stored.events() == []
    assert await sweep(stored).sweep() == 1
    assert await stored.events() == [("UserDeleted", user["_id"])]


@pytest.mark.spec("X4")
@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_an_hour_off_deletes_nobody_and_says_so(stored, mongo_uri, database, hours):
    await flagged(stored)
    await flagged(stored, "bob@demo.test", due_in=timedelta(minutes=30))

    class Off(Mongo):
        """The database's clock as this machine sees it when one of the two is an hour off."""

        async def server_time(self):
            return await super().server_time() + timedelta(hours=hours)

    off = Off(stored.mongo.client, stored.mongo.direct_client, database, Clock())
    sweeping = Sweep(UserStore(off))
    with pytest.raises(ClockSkew):
        await sweeping.sweep()
    with pytest.raises(ClockSkew):
        await sweeping.check_clock()
    assert len(await stored.all(USERS)) == 2


@pytest.mark.spec("X4")
async def test_a_bug_with_one_user_does_not_keep_the_others(stored):
    customer = (await stored.customer())["_id"]
    bad = await flagged(stored, "bad@demo.test", customer_id=customer)
    for number in range(7):
        await flagged(stored, f"user{number}@demo.test", customer_id=customer)

    class Buggy(UserStore):
        async def keep(self, user, deleted_at, purge_at, session):
            if user["_id"] == bad["_id"]:
                raise RuntimeError("a bug")
            await super().keep(user, deleted_at, purge_at, session)

    assert await sweep(stored, Buggy, batch=2).sweep() == 7
    assert await ids(stored, USERS) == {bad["_id"]}
    assert await sweep(stored).sweep() == 1


@pytest.mark.spec("X4")
async def test_a_user_locked_by_a_dead_schedulers_transaction_does_not_keep_the_others(stored):
    customer = (await stored.customer())["_id"]
    locked = await flagged(stored, "locked@demo.test", customer_id=customer)
    for number in range(5):
        await flagged(stored, f"user{number}@demo.test", customer_id=customer)
    async with await stored.mongo.client.start_session() as session:
        session.start_transaction()
        await stored.mongo.db["users"].delete_one({"_id": locked["_id"]}, session=session)
        async with asyncio.timeout(10):
            assert await sweep(stored).sweep() == 5
        await session.abort_transaction()
    assert await ids(stored, USERS) == {locked["_id"]}
    assert await sweep(stored).sweep() == 1


@pytest.mark.spec("S15")
async def test_one_who_was_restored_and_is_deleted_again_replaces_what_was_kept(stored):
    user = await flagged(stored)
    await sweep(stored).sweep()
    await stored.put(USERS, user | {"first_name": "Anna"})
    assert await sweep(stored).sweep() == 1
    assert (await stored.get(DELETED, user["_id"]))["user"]["first_name"] == "Anna"
