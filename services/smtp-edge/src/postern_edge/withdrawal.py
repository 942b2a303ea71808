"""Takes away what may have been stored of messages that were refused, so that the sender's second try makes no
duplicate.

An insert whose answer was lost may have succeeded. All that is refused goes one way and in batches: while the database
is away thousands may be refused, and each waiting by itself would leave no thread of the driver's to anybody else.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from postern_common.errors import Temporary
from postern_edge.messages import Entry

BATCH: Final = 200
GIVE_UP_SECONDS: Final = 600.0
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Withdrawal:
    """`add` never waits; `remove` takes away what nobody has taken over of a batch, or raises `Temporary`. Of an entry
    it gets `_id` and `lease_until`.
    """

    def __init__(self, remove: Callable[[Sequence[Entry]], Awaitable[None]]) -> None:
        self._remove = remove
        self._waiting: deque[tuple[float, Entry]] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, entries: Sequence[Entry]) -> None:
        """Take these away soon."""
        loop = asyncio.get_running_loop()
        for entry in entries:
            # Tens of thousands may wait, some with hundreds of recipients each.
            bare = Entry({name: entry.document[name] for name in ("_id", "lease_until")}, None)
            self._waiting.append((loop.time() + GIVE_UP_SECONDS, bare))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())

    async def drain(self) -> None:
        """Return when nothing is left to take away."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._waiting:
            batch = [self._waiting[place][1] for place in range(min(BATCH, len(self._waiting)))]
            try:
                await self._remove(batch)
            except Exception as error:  # a refusal that nobody foresaw must not end this for the others
                if not isinstance(error, Temporary):
                    log.error("refused_messages_not_removed_yet", messages=len(batch), exc_info=error)
                self._give_up_old()
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                for _ in batch:
                    self._waiting.popleft()

    def _give_up_old(self) -> None:
        now = asyncio.get_running_loop().time()
        left = []
        while self._waiting and self._waiting[0][0] < now:
            left.append(self._waiting.popleft()[1].message_id)
        if left:
            log.warning("refused_messages_not_removed", messages=len(left), message_ids=left[:20])
