"""Loops that look for work: how often, and what a failure that passes does."""

import asyncio

import pytest

from postern_common import polling
from postern_common.errors import Temporary


async def test_failures_that_pass_are_waited_for_longer_each_time_and_a_success_begins_anew(monkeypatch):
    outcomes, pauses = [True, False, False, False, True, False], []

    async def look():
        if not outcomes:
            raise ValueError("a bug")
        if not outcomes.pop(0):
            raise Temporary("away")

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr("postern_common.polling.random.uniform", lambda _low, _high: 1.0)
    monkeypatch.setattr("postern_common.polling.asyncio.sleep", sleep)
    with pytest.raises(ValueError, match="a bug"):
        await polling.poll(look, every=1.0, longest=5.0, waits="test_waits")
    assert pauses == [1.0, 2.0, 4.0, 5.0, 1.0, 2.0]


async def test_pauses_differ_a_little_and_a_loop_ends_when_it_is_cancelled():
    looked = asyncio.Event()

    async def look():
        looked.set()

    running = asyncio.create_task(polling.poll(look, every=60.0, longest=60.0, waits="test_waits"))
    await looked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
