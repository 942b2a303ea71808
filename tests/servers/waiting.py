"""Waiting for what must become true, without sleeping longer than needed."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def eventually(question: Callable[[], T], timeout: float = 10.0, pause: float = 0.05) -> T:
    """Ask until the answer is true (an AssertionError counts as not yet); the answer, or the last failure."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = question()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"still {answer!r} after {timeout} s: {_source(question)}")
        time.sleep(pause)


async def eventually_async(
    question: Callable[[], Any],
    timeout: float = 10.0,  # noqa: ASYNC109  the failure shows the last answer
    pause: float = 0.05,
) -> Any:
    """The same for tests that run in a loop; the question may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = question()
            value = await answer if inspect.isawaitable(answer) else answer
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"still {value!r} after {timeout} s: {_source(question)}")
        await asyncio.sleep(pause)


def _source(question: Callable[..., object]) -> str:
    try:
        return inspect.getsource(question).strip()
    except (OSError, TypeError):
        return repr(question)
