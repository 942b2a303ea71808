"""Finds due domains, claims them and has them looked at, a bounded number at a time (SPEC D3, CASES 34).

Due times stand in the documents and are compared with the database's time, so any number of verifiers share the work
and nothing needs to be handed over when one ends. A look that fails by an error of ours keeps its lease, which is the
pause before the next one.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Gauge, Histogram

from postern_common import telemetry
from postern_common.errors import Temporary
from postern_common.mongo import Document
from postern_common.mta_sts import policy_of
from postern_dns.inspection import Inspector
from postern_dns.rules import mta_sts
from postern_dns.settlement import Settlement
from postern_dns.store import DomainStore

MAX_PAUSE_SECONDS: Final = 15.0

log = structlog.get_logger(__name__)
_SECONDS = Histogram(
    "postern_dns_check_duration_seconds", "Time of a look with its result written.", ["kind"]
)  # ownership | mail
_UNDER_WAY = Gauge("postern_dns_checks_under_way", "Domains being looked at now.")

Work = Callable[[Document, datetime], Awaitable[None]]


class Schedule:
    """The verifier's loop."""

    def __init__(
        self,
        store: DomainStore,
        inspector: Inspector,
        *,
        concurrency: int = 20,
        poll_seconds: float = 0.5,
        lease: timedelta = timedelta(seconds=60),
    ) -> None:
        self._store = store
        self._inspector = inspector
        self._settlement = Settlement(store)
        self.on_commit: Callable[[], None] = lambda: None
        self._concurrency = concurrency
        self._poll_seconds = poll_seconds
        self._lease = lease
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def check_clock(self) -> None:
        """For `/readyz`: raise unless the database's time can be trusted for deciding what is due."""
        await self._store.mongo.now()

    def wake(self) -> None:
        """Look for due domains now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; back off while the database is away or its time and ours differ."""
        pause = self._poll_seconds
        while True:
            try:
                await self.claim_due()
                pause = self._poll_seconds
            except Temporary as error:
                pause = min(max(pause * 2, 0.5), MAX_PAUSE_SECONDS)
                log.warning("schedule_waits", reason=error.reason, pause_seconds=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.75, 1.25)):
                    await self._wake.wait()
            self._wake.clear()

    async def claim_due(self) -> None:
        """Claim due domains while there is room, and start looking at them."""
        while not self._draining and len(self._tasks) < self._concurrency:
            now = await self._store.mongo.now()
            claim = await self._store.claim_check(now, self._lease)
            work: Work = self._check
            if claim is None:
                claim = await self._store.claim_mail_look(now, self._lease)
                work = self._look_at_mail
            if claim is None:
                return
            task = asyncio.create_task(self._look(claim, now, work))
            self._tasks.add(task)
            _UNDER_WAY.set(len(self._tasks))
            task.add_done_callback(self._finished)

    async def drain(self) -> None:
        """Claim nothing more and wait for the looks under way."""
        self._draining = True
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        _UNDER_WAY.set(len(self._tasks))
        self._wake.set()

    async def _look(self, claim: Document, started: datetime, work: Work) -> None:
        with telemetry.bind(customer_id=claim["customer_id"], domain_id=claim["_id"]):
            try:
                await work(claim, started)
            except Temporary as error:
                log.warning("look_not_written", reason=error.reason)
            except Exception:  # the loop's edge: a bug with one domain must not stop the others
                log.exception("look_failed")
            else:
                self.on_commit()

    async def _check(self, claim: Document, started: datetime) -> None:
        with _SECONDS.labels(kind="ownership").time():
            evidence = await self._inspector.ownership(claim["name"], claim["code"])
            await self._settlement.ownership(claim, started, evidence)

    async def _look_at_mail(self, claim: Document, started: datetime) -> None:
        with _SECONDS.labels(kind="mail").time():
            hosted = claim.get("mta_sts")
            (mx, spf), evidence = await asyncio.gather(
                self._inspector.mail_records(claim["name"]),
                _nothing() if hosted is None else self._inspector.hosted_policy(claim["name"]),
            )
            verdict = None
            if hosted is not None and evidence is not None:
                verdict = mta_sts.judge(claim["name"], policy_of(hosted), evidence, mx)
            await self._settlement.mail_records(claim, started, mx, spf, verdict)


async def _nothing() -> None:
    return None
