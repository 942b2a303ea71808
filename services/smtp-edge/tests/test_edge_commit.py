"""Group commit: together what comes together, alone what comes alone, and one bad item spoils nothing."""

import asyncio
from contextlib import suppress

import pytest

from postern_common.errors import Temporary
from postern_edge.commit import ENOUGH, GroupCommit


class Writer:
    def __init__(self, bad=()):
        self.batches = []
        self.bad = bad
        self.fail_with = None

    async def write(self, items):
        self.batches.append(list(items))
        await asyncio.sleep(0.001)
        if self.fail_with:
            raise self.fail_with
        if set(items) & set(self.bad):
            raise ValueError("bad item")


async def running(writer, **options):
    commit = GroupCommit("messages", writer.write, **options)
    task = asyncio.create_task(commit.run())
    return commit, task


async def test_a_lone_item_is_written_at_once_and_a_flood_in_batches():
    writer = Writer()
    commit, task = await running(writer, writers=1, max_items=10)
    await commit.add(1)
    await asyncio.gather(*(commit.add(number) for number in range(25)))
    assert [len(batch) for batch in writer.batches] == [1, 10, 10, 5]
    assert commit.idle
    task.cancel()


async def test_a_batch_is_bounded_by_cost_and_a_large_item_goes_alone():
    writer = Writer()
    commit, task = await running(writer, writers=1, max_cost=10, cost=lambda item: item)
    await asyncio.gather(*(commit.add(number) for number in (4, 4, 4, 50, 1)))
    assert writer.batches == [[4, 4], [4], [50], [1]]
    task.cancel()


async def test_one_bad_item_fails_alone():
    writer = Writer(bad={3})
    commit, task = await running(writer)
    outcomes = await asyncio.gather(*(commit.add(number) for number in range(6)), return_exceptions=True)
    assert [type(one).__name__ for one in outcomes] == ["NoneType"] * 3 + ["ValueError"] + ["NoneType"] * 2
    task.cancel()


async def test_a_temporary_failure_is_told_to_all_and_repeated_by_none():
    writer = Writer()
    writer.fail_with = Temporary("away")
    commit, task = await running(writer)
    outcomes = await asyncio.gather(commit.add(1), commit.add(2), return_exceptions=True)
    assert all(isinstance(one, Temporary) for one in outcomes)
    assert len(writer.batches) == 1
    task.cancel()


async def test_what_nobody_waits_for_any_more_is_not_written():
    writer = Writer()
    commit = GroupCommit("messages", writer.write)
    gone = asyncio.create_task(commit.add(1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    task = asyncio.create_task(commit.run())
    await commit.add(2)
    assert writer.batches == [[2]]
    task.cancel()


async def test_stopping_in_the_middle_leaves_nobody_waiting():
    async def never(_items):
        await asyncio.sleep(3600)

    commit = GroupCommit("messages", never)
    task = asyncio.create_task(commit.run())
    waiting = asyncio.create_task(commit.add(1))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(Temporary):
        await waiting


async def test_beside_a_batch_that_is_written_another_begins_only_where_enough_waits():
    writer = Writer()
    commit, task = await running(writer, writers=2)
    first = asyncio.create_task(commit.add(0))
    await asyncio.sleep(0)
    few = [asyncio.create_task(commit.add(number)) for number in range(1, ENOUGH)]
    await asyncio.sleep(0)
    assert writer.batches == [[0]]
    one_more = asyncio.create_task(commit.add(ENOUGH))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [len(batch) for batch in writer.batches] == [1, ENOUGH]
    await asyncio.gather(first, *few, one_more)
    assert commit.idle
    task.cancel()


async def test_the_few_that_waited_for_a_batch_are_written_right_after_it():
    writer = Writer()
    commit, task = await running(writer, writers=2)
    await asyncio.gather(*(commit.add(number) for number in range(3)), asyncio.sleep(0))
    late = [asyncio.create_task(commit.add(number)) for number in range(3, 6)]
    await asyncio.wait_for(asyncio.gather(*late), 1)
    assert commit.idle
    task.cancel()


async def test_a_writer_ends_although_what_it_waits_for_swallows_the_cancellation():
    begun = asyncio.Event()

    async def write(_items):
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)

    commit = GroupCommit("messages", write)
    task = asyncio.create_task(commit.run())
    adding = asyncio.create_task(commit.add(1))
    await begun.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    assert task.cancelled()
    assert adding.done()
