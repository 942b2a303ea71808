"""A request for a run of directory synchronisation is answered, once, whatever comes twice or late."""

import asyncio

import pytest

from postern_common.documents import Collections
from postern_common.events import SyncRequested
from postern_common.ids import new_id
from postern_sync.runs.documents import new_run
from tests.servers.publisher import publishing
from tests.servers.stack import Stack
from tests.servers.stored import Stored, connect
from tests.servers.waiting import eventually_async

RUNS = Collections.SYNC_RUNS


@pytest.fixture(scope="module")
def surroundings(farm):
    """Directory synchronisation alone with a database and a broker."""
    around = Stack(farm)
    around.start("sync")
    yield around
    around.close()


@pytest.fixture
async def stored(surroundings):
    mongo = connect(surroundings.farm.mongo_uri(), surroundings.database)
    yield Stored(mongo)
    mongo.close()


@pytest.fixture
async def publisher(surroundings, stored):
    async with publishing(surroundings.farm, surroundings.vhost, stored.mongo) as ready:
        yield ready


async def add_run(stored, state="requested"):
    run = new_run(new_id("cus"), "adm_1", stored.mongo.clock.now()) | {"state": state}
    if state != "requested":
        del run["is_open"]
    return await stored.put(RUNS, run)


def requested(run):
    return SyncRequested(customer_id=run["customer_id"], run_id=run["_id"], requested_by="adm_1")


async def answers(stored, run):
    found = await stored.all(Collections.OUTBOX, name="SyncFailed", customer_id=run["customer_id"])
    return [entry["envelope"] for entry in found]


@pytest.mark.spec("S8", "S17", "V3")
async def test_without_a_directory_the_run_fails_and_says_why(stored, publisher):
    run = await add_run(stored)
    envelope = await publisher.send(requested(run))
    await publisher.processed("directory-sync", envelope)
    found = await stored.get(RUNS, run["_id"])
    assert (found["state"], found["reason"], found["version"]) == ("failed", "no directory configured", 2)
    assert found["finished_at"] >= found["created_at"]
    [answer] = await answers(stored, run)
    assert (answer["subject"], answer["causationid"]) == (run["_id"], envelope.id)
    assert answer["data"]["reason"] == "no directory configured"

    async def published():
        return {entry["state"] for entry in await stored.all(Collections.OUTBOX)} == {"sent"}

    await eventually_async(published)


@pytest.mark.spec("S8", "V3")
async def test_a_request_that_comes_again_is_answered_once(stored, publisher):
    run = await add_run(stored)
    first = await publisher.send(requested(run), times=3)
    second = await publisher.send(requested(run), times=2)
    await publisher.processed("directory-sync", first, second)
    await publisher.settled("directory-sync")
    assert len(await answers(stored, run)) == 1
    assert (await stored.get(RUNS, run["_id"]))["version"] == 2


@pytest.mark.spec("V3")
@pytest.mark.parametrize("state", ["cancelled", "completed", "failed"])
async def test_a_request_that_comes_after_the_runs_end_changes_nothing(stored, publisher, state):
    run = await add_run(stored, state)
    await publisher.processed("directory-sync", await publisher.send(requested(run)))
    assert await stored.get(RUNS, run["_id"]) == run | {
        "created_at": (await stored.get(RUNS, run["_id"]))["created_at"]
    }
    assert await answers(stored, run) == []


@pytest.mark.spec("S17")
async def test_a_run_asked_for_by_an_event_alone_gets_its_record(stored, publisher):
    run = {"_id": new_id("run"), "customer_id": new_id("cus")}
    await publisher.processed("directory-sync", await publisher.send(requested(run)))
    found = await stored.get(RUNS, run["_id"])
    assert (found["state"], found["customer_id"]) == ("failed", run["customer_id"])
    assert len(await answers(stored, run)) == 1


@pytest.mark.spec("V3")
async def test_a_request_made_while_the_service_is_down_is_answered_when_it_is_back(stored, publisher, surroundings):
    await asyncio.to_thread(surroundings.kill, "sync")
    run = await add_run(stored)
    envelope = await publisher.send(requested(run))
    await asyncio.to_thread(surroundings.start, "sync")
    await publisher.processed("directory-sync", envelope)
    assert len(await answers(stored, run)) == 1
