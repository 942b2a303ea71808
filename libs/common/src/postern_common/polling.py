"""Loops that look for work again and again, and back off while what they need is away."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Never

import structlog

from postern_common.errors import Temporary

log = structlog.get_logger(__name__)


async def poll(look: Callable[[], Awaitable[object]], *, every: float, longest: float, waits: str) -> Never:
    """Call `look` about every so many seconds until cancelled, and after each `Temporary` less often, down to once in
    `longest`; `waits` is what the log says then. Processes that begin together drift apart.
    """
    pause = every
    while True:
        try:
            await look()
            pause = every
        except Temporary as error:
            pause = min(pause * 2, longest)
            log.warning(waits, reason=error.reason, pause_seconds=pause)
        await asyncio.sleep(pause * random.uniform(0.75, 1.25))
