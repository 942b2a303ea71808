"""Works on runs: claims those that wait or whose worker died, a bounded number at a time (SPEC S8).

Any number of processes may run. A run in the hands of a worker is its own for as long as it renews the lease; one that
died leaves a run in its phase, and whoever takes it over goes on from there. A failure that may pass gives the run back
for another attempt after a pause; after some attempts the run ends as failed, so that nothing is tried for ever.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Protocol

import structlog
from prometheus_client import Counter, Gauge

from postern_common import telemetry
from postern_common.errors import Temporary
from postern_sync.runs.documents import CANCELLED, GIVEN_UP
from postern_sync.runs.lease import Lease, Stop
from postern_sync.runs.store import RunStore
from postern_sync.source import Cancelled

Document = dict[str, Any]
MAX_PAUSE_SECONDS: Final = 30.0
RETRY: Final = timedelta(seconds=15)

log = structlog.get_logger(__name__)
_UNDER_WAY = Gauge("postern_sync_runs_under_way", "Runs that this process works on now.")
_TAKEN_OVER = Counter("postern_sync_runs_taken_over_total", "Runs whose worker had died or given up.")
_INTERRUPTED = Counter(
    "postern_sync_runs_interrupted_total", "Work on runs that ended before the run did.", ["reason"]
)  # reason: lost | released | temporary | bug


class Work(Protocol):
    """What is done with a run."""

    async def run(self, lease: Lease) -> None:
        """Bring the run to its end; raises `Cancelled` where the lease says so."""

    async def fail(self, lease: Lease, reason: str, state: str = "failed") -> None:
        """End the run without its work being done."""


class Runner:
    """The loop of one process."""

    def __init__(
        self,
        store: RunStore,
        work: Work,
        *,
        concurrency: int = 4,
        poll_seconds: float = 1.0,
        lease: timedelta = timedelta(seconds=30),
        attempts: int = 5,
        retry: timedelta = RETRY,
    ) -> None:
        self._store = store
        self._work = work
        self._concurrency = concurrency
        self._poll_seconds = poll_seconds
        self._lease = lease
        self._attempts = attempts
        self._retry = retry
        self._owner = f"worker-{secrets.token_hex(8)}"
        self._wake = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], Lease] = {}
        self._draining = False
        self.on_commit: Callable[[], None] = lambda: None

    def wake(self) -> None:
        """Look for waiting runs now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; back off while the database is away or the clocks differ."""
        pause = self._poll_seconds
        try:
            while True:
                try:
                    await self.claim_waiting()
                    pause = self._poll_seconds
                except Temporary as error:
                    pause = min(pause * 2, MAX_PAUSE_SECONDS)
                    log.warning("runner_waits", reason=error.reason, pause_seconds=pause)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause * random.uniform(0.75, 1.25)):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._tasks:
                task.cancel()

    async def claim_waiting(self) -> int:
        """Claim waiting runs while there is room, and begin with them; how many."""
        begun = 0
        while not self._draining and len(self._tasks) < self._concurrency:
            claimed, now = time.monotonic(), await self._store.mongo.now()
            run = await self._store.claim(self._owner, now, self._lease)
            if run is None:
                break
            if run["state"] == "running":
                _TAKEN_OVER.inc()
            self._begin(Lease(self._store, run, self._owner, self._lease, claimed))
            begun += 1
        return begun

    def _begin(self, lease: Lease) -> None:
        task = asyncio.create_task(self._guarded(lease), name=lease.run_id)
        self._tasks[task] = lease
        _UNDER_WAY.set(len(self._tasks))
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        _UNDER_WAY.set(len(self._tasks))
        self.on_commit()
        self._wake.set()

    async def drain(self) -> None:
        """Claim nothing more, and give back the runs under way for other workers."""
        self._draining = True
        for lease in self._tasks.values():
            lease.release()
        await self.idle()

    async def idle(self) -> None:
        """Wait until no run is under way here."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _guarded(self, lease: Lease) -> None:
        with (
            telemetry.traced(),
            telemetry.bind(customer_id=lease.customer_id, run_id=lease.run_id, kind=lease.run["kind"]),
        ):
            keeping = asyncio.create_task(lease.keep())
            try:
                await self._attempt(lease)
            finally:
                keeping.cancel()

    async def _attempt(self, lease: Lease) -> None:
        """Work on the run, and see to it that somebody does so later where this ends early."""
        try:
            if lease.attempts >= self._attempts:
                await self._work.fail(lease, GIVEN_UP)
            else:
                await self._work.run(lease)
        except Cancelled:
            await self._settled(lambda: self._stopped(lease))
        except Temporary as error:
            _INTERRUPTED.labels(reason="temporary").inc()
            log.warning("run_interrupted", reason=error.reason)
            await self._settled(lambda: lease.give_back(pause=self._pause(lease), counts=True))
        except Exception:  # the loop's edge: a bug with one run must not stop the others
            _INTERRUPTED.labels(reason="bug").inc()
            log.exception("run_interrupted")
            await self._settled(lambda: lease.give_back(pause=self._pause(lease), counts=True))

    async def _stopped(self, lease: Lease) -> None:
        if lease.stopped is Stop.CANCELLED:
            await self._work.fail(lease, CANCELLED, "cancelled")
        elif lease.stopped is Stop.RELEASED:
            _INTERRUPTED.labels(reason="released").inc()
            await lease.give_back(counts=False)
            log.info("run_released")
        else:
            _INTERRUPTED.labels(reason="lost").inc()
            log.warning("run_lost")

    @staticmethod
    async def _settled(end: Callable[[], Awaitable[None]]) -> None:
        # What cannot be written now need not be: the lease lapses, and another worker comes to the same.
        with contextlib.suppress(Temporary, Cancelled):
            await end()

    def _pause(self, lease: Lease) -> timedelta:
        return self._retry * (1 << min(lease.attempts, 5)) * random.uniform(0.75, 1.25)
