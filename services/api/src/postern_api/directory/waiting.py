"""Waiting for what another service writes, without keeping the database busy."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")
PAUSES: Final = (0.05, 0.5)


async def first_of(look: Callable[[], Awaitable[T | None]], seconds: float, *, longest: float = PAUSES[1]) -> T | None:
    """What `look` gives as soon as it gives something; None after that many seconds without."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    pause = PAUSES[0]
    while True:
        found = await look()
        if found is not None or loop.time() >= end:
            return found
        await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        pause = min(longest, pause * 1.5)
