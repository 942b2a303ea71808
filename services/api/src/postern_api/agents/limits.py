"""What agents may use up of this process: requests in a minute, requests that wait for work, bodies at a time."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

WINDOW_SECONDS: Final = 60.0
MAX_WAITING_OF_ONE: Final = 2
# A page of 8 MiB takes up to 50 MiB once it is parsed.
MAX_BODIES: Final = 2


class Rates:
    """Counts the requests of each agent in the minute under way."""

    def __init__(self) -> None:
        self._window = 0
        self._counts: Counter[str] = Counter()

    def wait_of(self, agent_id: str, limit: int) -> float | None:
        """Count a request; how long to wait where there have been too many, None where it may go on."""
        now = time.monotonic()
        window = int(now // WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            self._counts.clear()
        self._counts[agent_id] += 1
        return None if self._counts[agent_id] <= limit else (window + 1) * WINDOW_SECONDS - now


class Room:
    """Where agents wait for work, and where their bodies are taken apart: neither may crowd others out."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self.bodies = asyncio.Semaphore(MAX_BODIES)

    @contextmanager
    def waiting(self, agent_id: str, most: int) -> Iterator[bool]:
        """Whether there is room for this agent to wait, among `most` of all."""
        if self._waiting[agent_id] >= MAX_WAITING_OF_ONE or self._waiting.total() >= most:
            yield False
            return
        self._waiting[agent_id] += 1
        try:
            yield True
        finally:
            self._waiting[agent_id] -= 1
            if not self._waiting[agent_id]:
                del self._waiting[agent_id]
