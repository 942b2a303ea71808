"""Records of runs are kept for some time, and those that say where a customer stands for longer (SPEC S17)."""

import asyncio
from datetime import timedelta

import pytest

from postern_sync.runs.documents import new_run
from postern_sync.runs.purge import Purge
from postern_sync.runs.store import RunStore
from postern_sync.schedule.store import DirectoryStore
from tests.servers.sync_source import DIRECTORIES, RUNS, story  # noqa: F401


async def run_of(story, days, state="completed", customer_id=None, **fields):
    """A run that ended so many days ago; None: it is open. Ids are in the order of making."""
    now = story.mongo.clock.now()
    run = new_run(customer_id or story.customer_id, "schedule", now - timedelta(days=days or 200))
    run |= {"state": state}
    if days is not None:
        run["finished_at"] = now - timedelta(days=days)
        del run["is_open"]
    return (await story.stored.put(RUNS, run | fields))["_id"]


def purge_of(story, **options):
    return Purge(RunStore(story.mongo), DirectoryStore(story.mongo), **options)


async def left(story):
    return {run["_id"] for run in await story.stored.all(RUNS)}


@pytest.mark.spec("S17")
async def test_old_records_go_and_those_that_are_needed_stay(story):
    old = [await run_of(story, days) for days in (400, 200, 91)]
    good = await run_of(story, 150)
    await run_of(story, 120, "failed")
    await run_of(story, 110, "held")
    await run_of(story, 100, kind="preview")
    young = await run_of(story, 89, "failed")
    opened = await run_of(story, None, "running")
    alone = await run_of(story, 300, customer_id="cus_other")
    assert await purge_of(story).look() == len(old) + 3
    assert await left(story) == {good, young, opened, alone}
    assert await purge_of(story).look() == 0


@pytest.mark.spec("S17", "S16")
async def test_the_run_that_later_ones_are_compared_with_stays(story):
    named, last = await run_of(story, 300), await run_of(story, 290, "failed")
    newest = await run_of(story, 280)
    directory = await story.directory()
    await story.stored.set(DIRECTORIES, directory["_id"], last_good={"run_id": named}, last_run_id=last)
    await purge_of(story).look()
    assert await left(story) == {named, last, newest}


@pytest.mark.spec("S17")
async def test_many_records_go_in_batches_whoever_removes_them(story):
    kept = {await run_of(story, 500 + number, customer_id=f"cus_{number}") for number in range(20)}
    for number in range(30):
        await run_of(story, 300 - number, "failed")
    purges = [purge_of(story, batch=7) for _ in range(3)]
    assert sum(await asyncio.gather(*(purge.look() for purge in purges))) == 30
    assert await left(story) == kept


@pytest.mark.spec("S17")
async def test_how_long_records_are_kept_is_the_platforms_choice(story):
    await run_of(story, 40, "failed")
    assert await purge_of(story, days=41).look() == 0
    assert await purge_of(story, days=30).look() == 1
