"""Several workers, workers that die, and runs that are called off: each change is made once, whoever makes it."""

import asyncio
import sys
import time
from datetime import timedelta

import pytest

from postern_common.documents import Collections
from postern_common.mongo import ClockSkew, DuplicateKey, Mongo
from postern_sync.applying.application import Application
from postern_sync.runs.lease import Lease, Stop
from postern_sync.schedule.loop import Schedule
from postern_sync.schedule.store import DirectoryStore
from postern_sync.source import Cancelled
from tests.servers.sync_source import DIRECTORIES, RUNS, people, story  # noqa: F401
from tests.servers.waiting import eventually_async

LEASE = timedelta(seconds=2)


async def events_once(story, count):
    """Every user was told of exactly once."""
    added = [subject for _, subject in await story.stored.events("UserAdded")]
    return sorted(added) == sorted(user["_id"] for user in (await story.users()).values()) and len(added) == count


@pytest.mark.spec("S8", "T9")
async def test_a_suspended_customers_directory_waits_and_runs_soon_after_the_suspension(story):
    story.source.entries = people(3, story.domain)
    due = story.mongo.clock.now() - timedelta(minutes=1)
    directory = await story.directory()
    await story.stored.set(DIRECTORIES, directory["_id"], next_run_at=due)
    await story.stored.set(Collections.CUSTOMERS, story.customer_id, state="suspended")
    [schedule] = schedules(story, 1)
    assert (await schedule.look(), await story.stored.all(RUNS)) == (0, [])
    waits = (await story.directory())["next_run_at"] - story.mongo.clock.now()
    assert timedelta(0) < waits <= timedelta(minutes=5)
    await story.stored.set(Collections.CUSTOMERS, story.customer_id, state="active")
    assert await schedule.look() == 0
    await story.stored.set(DIRECTORIES, directory["_id"], next_run_at=due)  # those minutes later
    assert await schedule.look() == 1
    await story.worker().work()
    assert len(await story.users()) == 3


@pytest.mark.spec("T9", "S17")
async def test_a_run_of_a_customer_that_is_suspended_meanwhile_changes_nobody_and_says_why(story):
    story.source.entries = people(3, story.domain)

    async def suspend():
        await story.stored.set(Collections.CUSTOMERS, story.customer_id, state="suspended")

    story.source.pause = suspend
    run = await story.sync()
    assert (run["state"], run["reason"], story.source.reads) == ("cancelled", "the customer is suspended", 1)
    run = await story.sync()
    assert (run["state"], run["reason"], story.source.reads) == ("cancelled", "the customer is suspended", 1)
    assert await story.users() == {}
    await story.stored.set(Collections.CUSTOMERS, story.customer_id, state="active")
    story.source.pause = lambda: asyncio.sleep(0)
    assert ((await story.sync())["state"], len(await story.users())) == ("completed", 3)


@pytest.mark.spec("S8")
async def test_of_two_runs_asked_for_at_once_one_is_kept(story):
    outcomes = await asyncio.gather(story.ask(), story.ask(), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [DuplicateKey.__name__, "str"]


@pytest.mark.spec("S8")
async def test_workers_that_look_at_once_do_a_run_once(story):
    story.source.entries = people(50, story.domain)
    run_id = await story.ask()
    begun = await asyncio.gather(*(story.worker().work() for _ in range(4)))
    assert (sum(begun), story.source.reads) == (1, 1)
    assert ((await story.run(run_id))["state"], await events_once(story, 50)) == ("completed", True)


@pytest.mark.chaos
@pytest.mark.spec("S8", "S16")
@pytest.mark.parametrize("where", ["reading", "planning", "transaction", "applying"])
async def test_a_run_whose_worker_is_killed_is_finished_by_another_without_a_double_effect(
    story, mongo_uri, database, where
):
    count = 1200
    run_id = await story.ask()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.servers.sync_worker", mongo_uri, database, str(count), story.domain, where,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(40):
        while b"here" not in await process.stdout.readline():
            assert process.returncode is None
    process.kill()
    await process.wait()
    run, there = await story.run(run_id), len(await story.users())
    assert (run["state"], run["phase"]) == ("running", "planning" if where == "transaction" else where)
    assert there == (count // 2 if where == "applying" else 0)

    story.source.entries = people(count, story.domain)
    worker = story.worker(lease=LEASE)
    assert await worker.work() == 0, "the lease has not ended yet"
    # A transaction of the dead worker is ended by the database, after 60 s if nobody set it otherwise.
    await eventually_async(worker.work, timeout=80)
    run = await story.run(run_id)
    assert (run["state"], run["counts"]["added"]) == ("completed", count)
    assert story.source.reads == (0 if where == "applying" else 1)
    assert (await events_once(story, count), await story.in_step()) == (True, True)
    assert len(await story.items(run_id)) == count
    assert len(await story.stored.events("SyncStarted", "SyncCompleted")) == 2


@pytest.mark.spec("S8")
async def test_a_worker_that_lost_its_run_changes_nothing_any_more(story):
    story.source.entries = people(600, story.domain)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def pause():
        reached.set()
        await go_on.wait()

    story.source.pause = pause
    run_id = await story.ask()
    slow = story.worker()
    await slow.runner.claim_waiting()
    await reached.wait()
    [lease] = slow.runner._tasks.values()
    await story.stored.set(RUNS, run_id, lease_owner="another", lease_until=story.mongo.clock.now() + LEASE)
    await eventually_async(lambda: lease.stopped is Stop.LOST, timeout=5)
    go_on.set()
    await slow.runner.idle()
    run = await story.run(run_id)
    assert (run["state"], run["lease_owner"], await story.users()) == ("running", "another", {})
    with pytest.raises(Cancelled):
        await lease.transact(lambda _session: story.users(), {"phase": "applying"})


@pytest.mark.spec("S17")
async def test_a_run_that_is_called_off_while_it_reads_stops_and_changes_nobody(story):
    story.source.entries = people(5000, story.domain)
    story.source.pause = lambda: asyncio.sleep(0.3)
    run_id = await story.ask()
    worker = story.worker()
    await worker.runner.claim_waiting()
    await eventually_async(lambda: story.source.reads)
    await story.stored.set(RUNS, run_id, cancel_requested=True)
    await worker.runner.idle()
    run = await story.run(run_id)
    assert (run["state"], run["phase"], run["reason"], await story.users()) == ("cancelled", "ended", "cancelled", {})
    assert "is_open" not in run
    assert await story.stored.events("SyncFailed") == [("SyncFailed", run_id)]


@pytest.mark.spec("S17")
async def test_progress_is_told_while_a_run_reads(story):
    story.source.entries = people(2000, story.domain)
    story.source.pause = lambda: asyncio.sleep(0.6)
    run_id = await story.ask()
    worker = story.worker()
    await worker.runner.claim_waiting()

    async def tells():
        run = await story.run(run_id)
        return run["phase"] == "reading" and run["progress"].get("read", 0) >= 500 and run["progress"]["per_second"] > 0

    await eventually_async(tells)
    await worker.runner.idle()
    run = await story.run(run_id)
    assert (run["progress"]["read"], run["progress"]["applied"], run["progress"]["items"]) == (2000, 2000, 2000)


@pytest.mark.spec("S8")
async def test_a_worker_that_stops_gives_its_run_to_another_at_once(story):
    story.source.entries = people(2000, story.domain)
    story.source.pause = lambda: asyncio.sleep(0.2)
    run_id = await story.ask()
    stopping = story.worker(lease=timedelta(seconds=60))
    await stopping.runner.claim_waiting()
    await eventually_async(lambda: story.source.reads)
    await stopping.runner.drain()
    run = await story.run(run_id)
    assert (run["state"], run["lease_until"], run["attempts"]) == ("running", None, 0)
    assert await story.worker().work() == 1
    assert (await story.run(run_id))["state"] == "completed"


@pytest.mark.spec("S17")
async def test_a_run_that_fails_on_our_side_again_and_again_ends_as_failed(story):
    story.source.failure = RuntimeError("a bug")
    run_id = await story.ask()
    worker = story.worker(attempts=3)

    async def has_ended():
        await worker.work()
        return (await story.run(run_id))["state"] != "running"

    await eventually_async(has_ended, timeout=20)
    run = await story.run(run_id)
    assert (run["state"], story.source.reads) == ("failed", 3)
    assert "a bug" not in run["reason"]


@pytest.mark.spec("S8")
async def test_runs_of_one_process_are_bounded(story):
    story.source.entries = people(1, story.domain)
    go_on = asyncio.Event()
    story.source.pause = go_on.wait
    for number in range(3):
        run = {**await story.run(await story.ask()), "_id": f"run_{number}", "customer_id": f"cus_{number}"}
        await story.mongo.db["sync_runs"].delete_many({"customer_id": story.customer_id})
        await story.stored.put(RUNS, run)
        directory = {**await story.directory(), "_id": f"dir_{number}", "customer_id": f"cus_{number}"}
        await story.stored.put(DIRECTORIES, directory)
        await story.stored.put(Collections.CUSTOMERS, {**await story.customer(), "_id": f"cus_{number}"})
    worker = story.worker(concurrency=2)
    assert await worker.runner.claim_waiting() == 2
    assert await worker.runner.claim_waiting() == 0
    go_on.set()
    await worker.runner.idle()
    assert await worker.runner.claim_waiting() == 1
    await worker.runner.idle()


async def make_due(story, hours_ago=1.0):
    due = story.mongo.clock.now() - timedelta(hours=hours_ago)
    await story.stored.set(DIRECTORIES, (await story.directory())["_id"], next_run_at=due)


def schedules(story, count):
    return [Schedule(DirectoryStore(story.mongo), story.worker().store) for _ in range(count)]


@pytest.mark.spec("S8")
async def test_a_due_directory_becomes_one_run_however_many_look_and_however_often_it_was_missed(story):
    await make_due(story, hours_ago=50)
    asked = await asyncio.gather(*(schedule.look() for schedule in schedules(story, 5)))
    assert sum(asked) == 1
    [run] = await story.stored.all(RUNS)
    assert (run["requested_by"], run["kind"], run["state"]) == ("schedule", "sync", "requested")
    assert await story.stored.events("SyncRequested") == [("SyncRequested", run["_id"])]
    ahead = (await story.directory())["next_run_at"] - story.mongo.clock.now()
    assert timedelta(hours=5, minutes=44) < ahead <= timedelta(hours=6)
    assert sum([await schedule.look() for schedule in schedules(story, 2)]) == 0


@pytest.mark.spec("S8")
async def test_no_run_is_queued_behind_one_that_is_open(story):
    await story.ask()
    await make_due(story)
    [schedule] = schedules(story, 1)
    assert (await schedule.look(), len(await story.stored.all(RUNS))) == (0, 1)
    assert (await story.directory())["next_run_at"] > story.mongo.clock.now() + timedelta(hours=5)


@pytest.mark.spec("S8")
async def test_a_run_that_is_due_while_a_preview_runs_comes_shortly_after(story):
    await story.ask("preview")
    await make_due(story)
    [schedule] = schedules(story, 1)
    assert await schedule.look() == 0
    ahead = (await story.directory())["next_run_at"] - story.mongo.clock.now()
    assert timedelta(0) < ahead <= timedelta(minutes=1)


@pytest.mark.spec("S14")
async def test_a_directory_that_is_switched_off_is_never_due(story):
    await make_due(story)
    await story.stored.set(DIRECTORIES, (await story.directory())["_id"], enabled=False)
    [schedule] = schedules(story, 1)
    assert (await schedule.look(), await story.stored.all(RUNS)) == (0, [])


@pytest.mark.spec("S8", "X4")
async def test_nothing_is_due_and_nothing_is_claimed_while_the_clocks_differ(story, monkeypatch):
    await make_due(story)
    run_id = await story.ask("preview")
    right = Mongo.server_time

    async def wrong(self):
        return await right(self) + timedelta(hours=1)

    monkeypatch.setattr(Mongo, "server_time", wrong)
    [schedule] = schedules(story, 1)
    for look in (schedule.look, schedule.check_clock, story.worker().runner.claim_waiting):
        with pytest.raises(ClockSkew):
            await look()
    assert (await story.run(run_id))["state"] == "requested"
    assert len(await story.stored.all(RUNS)) == 1


@pytest.mark.spec("S8", "S16")
async def test_a_write_of_a_worker_that_was_thought_dead_does_not_count(story):
    run_id = await story.ask()
    worker = story.worker()
    run = await worker.store.claim("slow", story.mongo.clock.now(), LEASE)
    lease = Lease(worker.store, run, "slow", timedelta(hours=1), time.monotonic())
    await story.stored.set(RUNS, run_id, lease_owner="another")

    async def add(session):
        await story.mongo.db["users"].insert_one({"_id": "usr_1", "customer_id": story.customer_id}, session=session)

    for write in (lease.transact(add, {"phase": "applying"}), lease.end(lambda _session: ended_fields()), lease.beat()):
        with pytest.raises(Cancelled):
            await write
    assert await story.stored.all(Collections.USERS) == []
    run = await story.run(run_id)
    assert (run["state"], run["lease_owner"], run["phase"]) == ("running", "another", "waiting")


async def ended_fields():
    return {"state": "completed"}


@pytest.mark.spec("S17")
async def test_a_run_that_is_called_off_while_it_applies_keeps_what_is_done_and_says_so(story, monkeypatch):
    story.source.entries = people(50, story.domain)
    story.settings = story.settings.model_copy(update={"sync_batch": 10})
    run_id = await story.ask()
    apply = Application._apply

    async def apply_and_call_off(self, groups):
        await apply(self, groups)
        if self._done == 20:
            await story.stored.set(RUNS, run_id, cancel_requested=True)

    monkeypatch.setattr(Application, "_apply", apply_and_call_off)
    await story.worker().work()
    run = await story.run(run_id)
    assert (run["state"], run["counts"]["added"], len(await story.users())) == ("cancelled", 20, 20)
    assert len(await story.items(run_id, state="planned")) == 30
    assert (await story.directory())["last_good"] is None
    monkeypatch.setattr(Application, "_apply", apply)
    run = await story.sync()
    assert (run["state"], run["counts"]["added"], await events_once(story, 50)) == ("completed", 30, True)


@pytest.mark.spec("S14")
async def test_a_run_whose_directory_was_switched_off_before_it_began_says_that_there_is_none(story):
    await story.stored.set(DIRECTORIES, (await story.directory())["_id"], enabled=False)
    run = await story.sync()
    assert (run["state"], run["reason"], story.source.reads) == ("failed", "no directory configured", 0)


@pytest.mark.chaos
@pytest.mark.spec("S8", "S16")
@pytest.mark.parametrize("where", ["reading", "applying"])
async def test_a_run_goes_on_when_the_database_comes_back(story, mongod_unit, monkeypatch, where):
    story.source.entries = people(1200, story.domain)
    story.settings = story.settings.model_copy(update={"sync_batch": 100})
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def pause():
        reached.set()
        await go_on.wait()

    if where == "reading":
        story.source.pause = pause
    else:
        apply = Application._apply

        async def apply_and_pause(self, groups):
            await apply(self, groups)
            if self._done == 600:
                await pause()

        monkeypatch.setattr(Application, "_apply", apply_and_pause)
    run_id = await story.ask()
    worker = story.worker(lease=timedelta(seconds=5))
    working = asyncio.create_task(worker.runner.run())
    try:
        await reached.wait()
        await asyncio.to_thread(mongod_unit.kill)
        go_on.set()
        await asyncio.sleep(1)
        await asyncio.to_thread(mongod_unit.start)

        async def has_ended():
            return (await story.run(run_id))["state"] not in {"requested", "running"}

        await eventually_async(has_ended, timeout=90, pause=0.3)
    finally:
        working.cancel()
    run = await story.run(run_id)
    assert (run["state"], await events_once(story, 1200), await story.in_step()) == ("completed", True, True)
