"""How many bytes of messages this process may hold at once, over all sessions.

A message is let in while there is room, and charged for what it holds. A session that already holds bytes never
waits for more: from half of the budget on it streams its body to the store instead (DESIGN 6), so no set of
sessions can block itself.
"""

import asyncio
from collections import deque


class ByteBudget:
    """A count of bytes with a line of those who wait for room."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether another message may start."""
        return self.used < self.total

    @property
    def is_tight(self) -> bool:
        """Whether large bodies should leave memory early."""
        return 2 * self.used > self.total

    def charge(self, change: int) -> None:
        """Add to, or with a negative number take from, the bytes in use."""
        self.used += change
        if change < 0:
            self._wake()

    async def wait_for_room(self, seconds: float) -> bool:
        """Wait in line for room; False when it did not come in time."""
        if self.has_room:
            return True
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except TimeoutError:
            return False
        finally:
            place.cancel()
        return True

    def _wake(self) -> None:
        """Let in one waiter for each release; each charges itself, so that the line moves as bytes leave."""
        while self._waiting and self.has_room:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
