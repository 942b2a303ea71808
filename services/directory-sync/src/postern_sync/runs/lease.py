"""A worker's hold on a run: renewed while the work goes on, and the end of the work where it is lost.

Every write to the run names the worker, in the transaction of what is applied, so that a worker that was thought dead
and comes back changes nothing: its next write finds the run gone. The same beat that renews the lease writes the
progress and learns that the run was called off. `check` and `note` may be called from threads.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar

import structlog

from postern_common.errors import Temporary
from postern_common.mongo import Session
from postern_sync.runs.documents import LEFT
from postern_sync.runs.store import RunStore
from postern_sync.source import Cancelled

Document = dict[str, Any]
T = TypeVar("T")
BEAT_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class Stop(StrEnum):
    """Why the work on a run ends early."""

    LOST = "lost"  # another worker has it, or may have it
    CANCELLED = "cancelled"  # somebody called it off
    RELEASED = "released"  # this process ends


class Lease:
    """One run in the hands of the worker `owner`; `claimed` is when it began to claim, by the monotonic clock."""

    def __init__(self, store: RunStore, run: Document, owner: str, lease: timedelta, claimed: float) -> None:
        self._store = store
        self._owner = owner
        self._lease = lease
        self._writing = asyncio.Lock()
        self._progress: Document = dict(run["progress"])
        self._holds_until = claimed + lease.total_seconds()
        self.run = run
        self.attempts: int = run.get("attempts", 0)
        self.stopped: Stop | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.run["_id"])

    @property
    def customer_id(self) -> str:
        """Whose run it is."""
        return str(self.run["customer_id"])

    def check(self) -> None:
        """Raise `Cancelled` unless the work may go on."""
        if self.stopped is None and time.monotonic() > self._holds_until:
            self.stopped = Stop.LOST
        if self.stopped is not None:
            raise Cancelled

    def is_stopped(self) -> bool:
        """Whether the work must end."""
        try:
            self.check()
        except Cancelled:
            return True
        return False

    def release(self) -> None:
        """End the work here, so that another worker goes on with it."""
        self.stopped = self.stopped or Stop.RELEASED

    def note(self, **progress: Any) -> None:
        """Remember how far the work is; the next beat writes it."""
        self._progress = {**self._progress, **progress}

    async def keep(self) -> None:
        """Renew the lease and write the progress about once a second, until cancelled or lost."""
        while not self.is_stopped():
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self.beat()
            except Temporary as error:
                log.warning("lease_not_renewed", reason=error.reason)
            except Cancelled:
                return

    async def beat(self) -> None:
        """Renew the lease once, with the progress."""
        async with self._writing:
            began, until = time.monotonic(), await self._until()
            fields = {"lease_until": until, "progress": self._progress}
            self._take(await self._store.write(self.run, self._owner, fields), began)

    async def transact(
        self,
        work: Callable[[Session], Awaitable[T]],
        fields: Mapping[str, Any],
    ) -> T:
        """Do `work` and write `fields` of the run in one transaction, while the run is ours and not called off."""
        self.check()

        async def whole(session: Session) -> tuple[T, Document]:
            # The run comes first: of two workers the one whose lease is gone ends before it writes anything else.
            held = await self._store.write(self.run, self._owner, {**fields, "lease_until": until}, session=session)
            if held is None or held["cancel_requested"]:
                self._stop(held)
            return await work(session), held

        async with self._writing:
            began, until = time.monotonic(), await self._until()
            result, held = await self._store.mongo.transact(whole)
            self._take(held, began)
        return result

    async def end(self, work: Callable[[Session], Awaitable[Mapping[str, Any]]]) -> None:
        """End the run with the fields that `work` gives, in one transaction, also where it was called off."""

        async def whole(session: Session) -> None:
            last = {"phase": "ended", "progress": self._progress}
            if await self._store.write(self.run, self._owner, last, session=session) is None:
                self._stop(None)
            fields = await work(session)
            await self._store.write(self.run, self._owner, fields, unset=LEFT, session=session)

        async with self._writing:
            await self._store.mongo.transact(whole)

    async def give_back(self, *, pause: timedelta = timedelta(), counts: bool) -> None:
        """Let others have the run, after `pause`; `counts` tells that this was an attempt that failed."""
        until = await self._store.mongo.server_time() + pause if pause else None
        fields: Document = {"lease_owner": None, "lease_until": until}
        if not counts:
            fields["attempts"] = self.attempts
        await self._store.write(self.run, self._owner, fields)

    async def _until(self) -> datetime:
        return await self._store.mongo.server_time() + self._lease

    def _take(self, found: Document | None, began: float) -> None:
        if found is None or found["cancel_requested"]:
            self._stop(found)
        self.run = found
        self._holds_until = began + self._lease.total_seconds()

    def _stop(self, found: Document | None) -> NoReturn:
        self.stopped = self.stopped or (Stop.LOST if found is None else Stop.CANCELLED)
        raise Cancelled
