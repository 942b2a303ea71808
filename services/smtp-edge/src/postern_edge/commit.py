"""Group commit: things that arrive within the same few milliseconds are written together (DESIGN 7).

`add` returns when its item is written, or raises what the write raised. A writer takes all that waits, within bounds of
count and cost, so that a lone item is written at once and a flood in large batches. While one writes, another begins
only where a batch worth its while waits: what a batch costs beside its items is most of what a small one costs. An item
that breaks a batch is found by writing each alone: it fails, and the others do not.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import structlog
from prometheus_client import Histogram

from postern_common.errors import Temporary

T = TypeVar("T")

log = structlog.get_logger(__name__)
ENOUGH: Final = 16  # items for a batch beside another one
_BATCH: Final = Histogram(
    "postern_edge_commit_items", "Items in one group commit.", ["what"], buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)  # what: messages | results
_SECONDS: Final = Histogram(
    "postern_edge_commit_seconds", "Time of one group commit.", ["what"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)  # fmt: skip


class GroupCommit(Generic[T]):
    """Writes items in groups by `write`; `cost` weighs one (bytes), `max_cost` bounds a group."""

    def __init__(
        self,
        what: str,
        write: Callable[[list[T]], Awaitable[None]],
        *,
        cost: Callable[[T], int] = lambda _item: 1,
        writers: int = 2,
        max_items: int = 100,
        max_cost: int = 1 << 60,
    ) -> None:
        self._write = write
        self._cost = cost
        self._writers = writers
        self._max_items = max_items
        self._max_cost = max_cost
        self._waiting: deque[tuple[T, asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._under_way = 0  # items that are being written
        self._batch = _BATCH.labels(what)
        self._seconds = _SECONDS.labels(what)

    async def add(self, item: T) -> None:
        """Return when `item` is written."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, written))
        if self._may_begin:
            self._wake.set()
        await written

    @property
    def idle(self) -> bool:
        """True when nothing waits and nothing is being written."""
        return not self._waiting and not self._under_way

    @property
    def _may_begin(self) -> bool:
        return len(self._waiting) >= (ENOUGH if self._under_way else 1)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._writers):
                group.create_task(self._writer())

    async def _writer(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - `run` makes a task of each writer
        while True:
            # A cancellation that meets the very end of a wait in the driver is swallowed there (`wait_for` before
            # Python 3.12), and is not said twice.
            if task.cancelling():
                raise asyncio.CancelledError
            while not self._may_begin:
                self._wake.clear()
                await self._wake.wait()
            batch = self._take()
            if not batch:
                continue
            self._under_way += len(batch)
            try:
                with self._seconds.time():
                    await self._write_batch(batch)
            finally:
                self._under_way -= len(batch)
                for _, written in batch:
                    if not written.done():  # cancelled in the middle: nobody may wait for ever
                        written.set_exception(Temporary("stopping"))
                        written.exception()

    def _take(self) -> list[tuple[T, asyncio.Future[None]]]:
        batch: list[tuple[T, asyncio.Future[None]]] = []
        cost = 0
        while self._waiting and len(batch) < self._max_items:
            cost += self._cost(self._waiting[0][0])
            if batch and cost > self._max_cost:
                break
            item, written = self._waiting.popleft()
            if not written.done():  # cancelled: whoever wanted it written is gone
                batch.append((item, written))
        return batch

    async def _write_batch(self, batch: list[tuple[T, asyncio.Future[None]]]) -> None:
        self._batch.observe(len(batch))
        try:
            await self._write([item for item, _ in batch])
        except Temporary as error:
            _settle(batch, error)
        except Exception as error:
            if len(batch) == 1:
                log.error("commit_failed", exc_info=error)
                _settle(batch, error)
            else:
                for one in batch:
                    await self._write_batch([one])
        else:
            _settle(batch, None)


def _settle(batch: list[tuple[T, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, written in batch:
        with contextlib.suppress(asyncio.InvalidStateError):  # whoever waited is gone
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)
                written.exception()
