"""Turns due directories into runs, whoever looks first (SPEC S8).

Any number of workers may look. The run and the directory's next due time are one transaction: of two workers one finds
the due time moved, or an open run in the way. What came due more than once while nobody looked runs once, since the
next time counts from now. Customers who are suspended wait (SPEC T9). While this machine's clock and the database's
differ by more than 60 s nothing is due.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge

from postern_common import outbox, telemetry
from postern_common.errors import Temporary
from postern_common.events import SyncRequested
from postern_common.mongo import DuplicateKey, Session
from postern_sync.runs.documents import SCHEDULE, SERVICE, new_run
from postern_sync.runs.store import RunStore
from postern_sync.schedule.store import DirectoryStore

Document = dict[str, Any]
BATCH: Final = 100
MAX_PAUSE_SECONDS: Final = 30.0
# Runs move apart from each other by coming up to so much of their interval early, never late.
EARLY: Final = 0.05
MOST_EARLY: Final = timedelta(minutes=15)
# A preview or an approval that is under way is short: the run that is due waits for it.
SHORTLY: Final = timedelta(minutes=1)
# Directories of suspended customers are looked at again so often: soon after the suspension they run.
SUSPENDED: Final = timedelta(minutes=5)

log = structlog.get_logger(__name__)
_DUE = Counter("postern_sync_schedule_runs_total", "Runs that the schedule asked for.")
_LATE = Gauge("postern_sync_schedule_lateness_seconds", "By how much the last due directory was late.")


def next_time(now: datetime, interval_hours: int, share: float) -> datetime:
    """When a directory is due next; `share` (0 to 1) tells how much of the leeway is used."""
    interval = timedelta(hours=interval_hours)
    return now + interval - min(interval * EARLY, MOST_EARLY) * share


class Schedule:
    """The loop of one process."""

    def __init__(self, directories: DirectoryStore, runs: RunStore, *, poll_seconds: float = 1.0) -> None:
        self._directories = directories
        self._runs = runs
        self._mongo = directories.mongo
        self._poll_seconds = poll_seconds
        self._draining = asyncio.Event()
        self.on_commit: Callable[[], None] = lambda: None
        self.on_run: Callable[[], None] = lambda: None

    async def check_clock(self) -> None:
        """For `/readyz`: raise unless the database's time can be trusted for deciding what is due."""
        await self._mongo.now()

    async def run(self) -> None:
        """Look until cancelled; back off while the database is away or the clocks differ."""
        pause = self._poll_seconds
        while not self._draining.is_set():
            try:
                await self.look()
                pause = self._poll_seconds
            except Temporary as error:
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                log.warning("schedule_waits", reason=error.reason, pause_seconds=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.75, 1.25)):
                    await self._draining.wait()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Ask for no further runs."""
        self._draining.set()

    async def look(self) -> int:
        """Ask for a run of every directory that is due; how many were asked for here."""
        now = await self._mongo.now()
        asked = 0
        for directory in await self._directories.due(now, BATCH):
            with telemetry.traced(), telemetry.bind(customer_id=directory["customer_id"]):
                try:
                    asked += await self._mongo.transact(lambda session: self._ask(directory, now, session))  # noqa: B023
                except DuplicateKey:
                    continue  # another one was asked for in this moment; the next look sees it
                except Temporary:
                    raise
                except Exception:  # the loop's edge: a bug with one directory must not stop the others
                    log.exception("schedule_failed")
        if asked:
            _DUE.inc(asked)
            self.on_commit()
            self.on_run()
        return asked

    async def _ask(self, directory: Document, now: datetime, session: Session) -> bool:
        customer_id = directory["customer_id"]
        present = await self._runs.open_run(customer_id, session)
        at = next_time(now, directory["interval_hours"], random.random())
        if present is not None and present["kind"] != "sync":
            at = now + SHORTLY
        is_suspended = await self._directories.is_suspended(customer_id, session)
        if is_suspended:
            at = now + SUSPENDED
        if not await self._directories.move_on(directory, at, session):
            return False
        if is_suspended:
            return False
        _LATE.set((now - directory["next_run_at"]).total_seconds())
        if present is not None:
            return False
        run = new_run(customer_id, SCHEDULE, now)
        await self._runs.add(run, session)
        event = SyncRequested(customer_id=customer_id, run_id=run["_id"], requested_by=SCHEDULE)
        await outbox.append(self._mongo, session, event, service=SERVICE)
        log.info("run_scheduled", run_id=run["_id"])
        return True
