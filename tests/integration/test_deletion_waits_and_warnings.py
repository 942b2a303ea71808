"""Before a deletion: warnings ahead of it, and what makes it wait (SPEC X2, X3, S14, S16)."""

import asyncio
from datetime import timedelta

import pytest

from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_deletion.store import UserStore
from postern_deletion.sweep import Sweep
from postern_deletion.warnings import Warnings
from tests.servers.stored import Stored, connect, move, stored  # noqa: F401

DAY = timedelta(days=1)


async def flagged(stored, customer_id, email="ann@demo.test", *, due_in=-DAY, **fields):
    now = await stored.mongo.now()
    state = {"state": "flagged", "flagged_at": now - 8 * DAY, "due_at": now + due_in, "flag_reason": "absent"}
    return await stored.user(email, customer_id=customer_id, verified=True, **(state | fields))


async def directory(stored, customer_id, *, read_ago=timedelta(hours=1), **fields):
    """The customer's settings of synchronisation, with a last good run so long ago; None: there was none."""
    now = await stored.mongo.now()
    document = {
        "_id": new_id("dir"),
        "customer_id": customer_id,
        "provider": "ldap",
        "enabled": True,
        "frozen": False,
        "interval_hours": 6,
        "last_good": None if read_ago is None else {"at": now - read_ago},
    }
    return await stored.put(Collections.DIRECTORIES, document | fields)


async def left(stored):
    return {user["email"] for user in await stored.all(Collections.USERS)}


async def warned(stored, count=1):
    return sum(await asyncio.gather(*(Warnings(UserStore(stored.mongo)).look() for _ in range(count))))


async def told(stored):
    documents = await stored.all(Collections.OUTBOX)
    found = [entry["envelope"]["data"] for entry in documents if entry["name"] == "UserDeletionDue"]
    return [event["days"] for event in sorted(found, key=lambda event: -event["days"])]


@pytest.mark.spec("X3")
async def test_each_warning_is_told_once_by_any_number_of_schedulers(stored, move):
    customer = (await stored.customer())["_id"]
    await flagged(stored, customer, due_in=30 * DAY)
    assert await warned(stored) == 0
    for passed, days in ((23.5, [7]), (24, [7]), (27.5, [7, 3]), (29.5, [7, 3, 1]), (29.9, [7, 3, 1])):
        move(passed * DAY)
        await warned(stored, 4)
        assert await told(stored) == days


@pytest.mark.spec("X3")
async def test_who_is_found_late_gets_the_warning_that_fits_and_none_of_those_missed(stored):
    customer = (await stored.customer())["_id"]
    await flagged(stored, customer, due_in=timedelta(hours=20))
    assert await warned(stored) == 1
    assert await warned(stored) == 0
    assert await told(stored) == [1]


@pytest.mark.spec("X3")
async def test_a_due_time_that_moves_is_told_of_anew(stored):
    customer = (await stored.customer())["_id"]
    user = await flagged(stored, customer, due_in=2 * DAY)
    await warned(stored)
    users = stored.mongo.db[Collections.USERS.value]
    await users.update_one({"_id": user["_id"]}, {"$set": {"due_at": await stored.mongo.now() + 6 * DAY}})
    await warned(stored)
    assert await told(stored) == [7, 3]


@pytest.mark.spec("X3")
async def test_nobody_else_is_warned_of(stored):
    customer = (await stored.customer())["_id"]
    await flagged(stored, customer, "past@demo.test", due_in=-DAY)
    await flagged(stored, customer, "ignored@demo.test", due_in=DAY, state="ignored")
    never = {"state": "flagged", "due_at": None, "flagged_at": await stored.mongo.now()}
    await stored.user("never@demo.test", customer_id=customer, verified=True, **never)
    assert await warned(stored) == 0


@pytest.mark.spec("S16", "X2")
async def test_a_user_whom_a_run_flagged_waits_while_the_directory_is_not_read(stored):
    customer = (await stored.customer())["_id"]
    await directory(stored, customer, read_ago=timedelta(hours=13))
    await flagged(stored, customer, "run@demo.test")
    await flagged(stored, customer, "hand@demo.test", flag_reason="by hand")
    other = (await stored.customer())["_id"]
    await flagged(stored, other, "other@other.test")
    assert await Sweep(UserStore(stored.mongo), batch=1).sweep() == 2
    assert await left(stored) == {"run@demo.test"}
    directories = stored.mongo.db[Collections.DIRECTORIES.value]
    await directories.update_one({}, {"$set": {"last_good.at": await stored.mongo.now()}})
    assert await Sweep(UserStore(stored.mongo)).sweep() == 1


@pytest.mark.spec("S16", "T9")
async def test_nobody_goes_for_a_directory_that_is_not_read_since_its_customer_is_suspended(stored, move):
    """Whom a run flagged waits as soon as the last good run is old; who was flagged by hand goes all the same."""
    customer = (await stored.customer(state="suspended"))["_id"]
    await directory(stored, customer)
    await flagged(stored, customer, due_in=13 * timedelta(hours=1))
    await flagged(stored, customer, "bob@demo.test", due_in=13 * timedelta(hours=1), flag_reason="by hand")
    move(3 * DAY)
    assert await Sweep(UserStore(stored.mongo)).sweep() == 1
    assert await left(stored) == {"ann@demo.test"}


@pytest.mark.spec("S16")
async def test_without_any_good_run_nobody_goes(stored):
    customer = (await stored.customer())["_id"]
    await directory(stored, customer, read_ago=None)
    await flagged(stored, customer)
    assert await Sweep(UserStore(stored.mongo)).sweep() == 0


@pytest.mark.spec("S16")
async def test_a_user_flagged_since_the_last_good_run_waits_and_holds_up_nobody_else(stored):
    customer = (await stored.customer())["_id"]
    now = await stored.mongo.now()
    await directory(stored, customer, read_ago=9 * DAY, interval_hours=168)
    await flagged(stored, customer, "since@demo.test", due_in=-2 * DAY, flagged_at=now - 8.5 * DAY)
    await flagged(stored, customer, "before@demo.test", flagged_at=now - 10 * DAY)
    await flagged(stored, customer, "hand@demo.test", flagged_at=now - 8 * DAY, flag_reason="by hand")
    assert await Sweep(UserStore(stored.mongo), batch=1).sweep() == 2
    assert await left(stored) == {"since@demo.test"}
    directories = stored.mongo.db[Collections.DIRECTORIES.value]
    await directories.update_one({}, {"$set": {"last_good.at": now}})
    assert await Sweep(UserStore(stored.mongo)).sweep() == 1


@pytest.mark.spec("S16", "S12")
@pytest.mark.parametrize("name", ["updated_at", "rules_changed_at"])
async def test_all_wait_at_once_where_the_directory_is_asked_something_else_now(stored, name):
    customer = (await stored.customer())["_id"]
    await directory(stored, customer, **{name: await stored.mongo.now()})
    for number in range(5):
        await flagged(stored, customer, f"u{number}@demo.test")
    asked = []

    class Counting(UserStore):
        async def directory(self, customer_id, session):
            asked.append(customer_id)
            return await super().directory(customer_id, session)

    assert await Sweep(Counting(stored.mongo), batch=1).sweep() == 0
    assert (len(await left(stored)), len(asked)) == (5, 1)


@pytest.mark.spec("S14")
async def test_a_directory_that_is_frozen_in_the_last_moment_keeps_its_users(stored):
    customer = (await stored.customer())["_id"]
    await directory(stored, customer, enabled=False)
    await flagged(stored, customer)

    class Meanwhile(UserStore):
        async def due(self, now, limit, skip=(), paused=None):
            found = await super().due(now, limit, skip, paused)
            await self.mongo.db[Collections.DIRECTORIES.value].update_one({}, {"$set": {"frozen": True}})
            return found

    assert await Sweep(Meanwhile(stored.mongo)).sweep() == 0
    assert await left(stored) == {"ann@demo.test"}


@pytest.mark.spec("S14", "S14a")
@pytest.mark.parametrize(("frozen", "deleted"), [(False, 1), (True, 0)])
async def test_1h_7_switched_off_the_delays_run_on_unless_they_are_frozen(stored, frozen, deleted):
    customer = (await stored.customer())["_id"]
    await directory(stored, customer, enabled=False, frozen=frozen, read_ago=30 * DAY)
    await flagged(stored, customer)
    assert await Sweep(UserStore(stored.mongo)).sweep() == deleted


@pytest.mark.spec("X2")
async def test_a_deleted_user_leaves_all_lists(stored):
    customer = (await stored.customer())["_id"]
    user = await flagged(stored, customer)
    rows = [("usr_list", user["_id"]), ("usr_list", "usr_other"), (user["_id"], "usr_other")]
    for group_id, member_id in rows:
        row = {"customer_id": customer, "group_id": group_id, "member_id": member_id, "source": "ldap"}
        await stored.put(Collections.MEMBERSHIPS, row)
    assert await Sweep(UserStore(stored.mongo)).sweep() == 1
    assert [row["member_id"] for row in await stored.all(Collections.MEMBERSHIPS)] == ["usr_other"]


@pytest.mark.spec("R4", "X2")
async def test_no_address_of_a_deleted_user_stays_known(stored):
    customer = (await stored.customer())["_id"]
    await flagged(stored, customer, aliases=("a.lee@demo.test",))
    for key in ("ann@demo.test", "a.lee@demo.test", "bob@demo.test"):
        row = {"customer_id": customer, "key": key, "domain": "demo.test", "reason": "licence_discovered"}
        await stored.put(Collections.KNOWN_ADDRESSES, row)
    assert await Sweep(UserStore(stored.mongo)).sweep() == 1
    assert [row["key"] for row in await stored.all(Collections.KNOWN_ADDRESSES)] == ["bob@demo.test"]
