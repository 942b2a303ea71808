"""The leases of the messages that this process has under way: extended in one update, and known for how long they are
sure.

While the database is away leases lapse, and another edge may take a message over. So nothing is handed to a next hop
whose lease is not sure any more: a message that stood in line for too long goes back instead of going out twice.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from postern_common.errors import Temporary
from postern_edge.queue import Queue

log = structlog.get_logger(__name__)


class Leases:
    """Which messages are surely ours, by the loop's clock; `under_way` names those to keep."""

    def __init__(self, queue: Queue, under_way: Callable[[], Iterable[str]]) -> None:
        self._queue = queue
        self._under_way = under_way
        self._sure_until: dict[str, float] = {}

    def begin(self, message_id: str, seconds: float) -> None:
        """Note a lease that was just taken, for so many seconds."""
        self._sure_until[message_id] = asyncio.get_running_loop().time() + seconds

    def end(self, message_id: str) -> None:
        """Forget a message."""
        self._sure_until.pop(message_id, None)

    def check(self, message_id: str) -> None:
        """Raise `Temporary` unless the message is surely ours."""
        if self._sure_until.get(message_id, 0.0) < asyncio.get_running_loop().time():
            raise Temporary("the lease may have lapsed")

    async def run(self) -> None:
        """Extend until cancelled."""
        seconds = self._queue.lease.total_seconds()
        while True:
            await asyncio.sleep(seconds / 3)
            message_ids = list(self._under_way())
            if not message_ids:
                continue
            until = asyncio.get_running_loop().time() + seconds
            try:
                ours = await self._queue.extend(message_ids)
            except Temporary as error:
                log.warning("leases_not_extended", reason=error.reason)
                continue
            for message_id in message_ids:
                if message_id in self._sure_until:
                    self._sure_until[message_id] = until if message_id in ours else 0.0
