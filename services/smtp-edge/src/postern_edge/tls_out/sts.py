"""The MTA-STS policies of receiving domains: found, kept and refreshed (RFC 8461 3.3, 5.1).

A policy that was fetched once holds for its `max_age`, whatever becomes of its record and of its server: leaving it out
because something does not answer would be the downgrade that it is to prevent. It is fetched again in the background
when the record announces another, and once a day. Only the first fetch is waited for, by all deliveries to the domain
at once; a domain whose first fetch fails is taken for one without a policy (RFC 8461 3.3), and that is reported.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import structlog
from prometheus_client import Counter

from postern_common.errors import Temporary
from postern_common.mta_sts import RECORD_LABEL
from postern_edge.adapters.policy_files import NotFetched
from postern_edge.rules.mta_sts import KeptPolicy, StsPolicy, announced_id
from postern_edge.rules.tls_policy import TlsFault

LOOKED_UP_SECONDS: Final = 300.0  # how long what is stored of a domain is not looked at again
RETRY_SECONDS: Final = 300.0  # the least pause after a fetch that failed (RFC 8461 3.3)
KNOWN_DOMAINS: Final = 10_000
MOST_FETCHES: Final = 100  # at one time
WAIT_SECONDS: Final = 75.0  # of one delivery for a first fetch, which takes 60 at most once its turn has come
SILENT_SECONDS: Final = 60.0  # how long a record that could not be looked up is not asked for again

log = structlog.get_logger(__name__)
# outcome: kept, failed
_FETCHES: Final = Counter("postern_edge_sts_fetches_total", "Fetches of MTA-STS policies by outcome.", ["outcome"])


class Texts(Protocol):
    """Looks up TXT records."""

    async def texts(self, name: str) -> list[str]:
        """The records of a name; raises `Temporary`."""


class Files(Protocol):
    """Fetches policies."""

    async def fetch(self, domain: str) -> StsPolicy:
        """A domain's policy as it is served now; raises `NotFetched`."""


class Store(Protocol):
    """Keeps policies for all edges; both raise `Temporary`."""

    async def get(self, domain: str, now: datetime) -> KeptPolicy | None:
        """A domain's policy that is in force."""

    async def put(self, domain: str, kept: KeptPolicy) -> None:
        """Keep a policy in place of an older one."""


@dataclass(frozen=True, slots=True)
class Found:
    """A domain's policy in force, or why one that is announced could not be had."""

    policy: StsPolicy | None = None
    fault: TlsFault | None = None


@dataclass(slots=True)
class _Known:
    kept: KeptPolicy | None = None
    looked_at: float = -math.inf
    silent_until: float = -math.inf  # the record could not be looked up lately
    failed_at: float = -math.inf
    fault: TlsFault | None = None
    fetching: asyncio.Task[None] | None = None

    def in_force(self, now: datetime) -> KeptPolicy | None:
        """The policy that is kept, unless it has ended."""
        return self.kept if self.kept is not None and self.kept.holds(now) else None


class StsPolicies:
    """Policies by domain. `now` is the database's time, by which kept policies end for all edges alike."""

    def __init__(self, texts: Texts, files: Files, store: Store, now: Callable[[], datetime]) -> None:
        self._texts = texts
        self._files = files
        self._store = store
        self._now = now
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._slots = asyncio.Semaphore(MOST_FETCHES)
        self._tasks: set[asyncio.Task[None]] = set()

    async def of(self, domain: str) -> Found:
        """The policy of a domain (an A-label in lower case). Raises `Temporary` while nobody can tell: the database is
        away, or too many other first fetches are under way.
        """
        known = self._known_of(domain)
        announced = await self._announced(domain, known)
        await self._look_up(domain, known)
        kept = known.in_force(self._now())
        if kept is not None:
            if kept.wants_refreshing(announced, self._now()):
                self._fetching(domain, known, announced)
            return Found(kept.policy)
        if announced is None:
            return Found()
        fetching = self._fetching(domain, known, announced)
        if fetching is not None and not (await asyncio.wait({fetching}, timeout=WAIT_SECONDS))[0]:
            raise Temporary("the domain's MTA-STS policy waits to be fetched")
        kept = known.in_force(self._now())
        return Found(fault=known.fault) if kept is None else Found(kept.policy)

    async def close(self) -> None:
        """Give up what is being fetched."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _known_of(self, domain: str) -> _Known:
        known = self._known.get(domain)
        if known is None:
            known = self._known[domain] = _Known()
            while len(self._known) > KNOWN_DOMAINS:
                self._known.popitem(last=False)
        self._known.move_to_end(domain)
        return known

    async def _announced(self, domain: str, known: _Known) -> str | None:
        """The id in the domain's record; a look-up that fails announces nothing, and is not repeated at once."""
        if time.monotonic() < known.silent_until:
            return None
        try:
            return announced_id(await self._texts.texts(f"{RECORD_LABEL}.{domain}"))
        except Temporary as error:
            log.info("sts_record_not_looked_up", reason=error.reason)
            known.silent_until = time.monotonic() + SILENT_SECONDS
            return None

    async def _look_up(self, domain: str, known: _Known) -> None:
        """See what another edge has fetched, now and then, and when what is known has ended; also for domains that
        announce nothing (any more).
        """
        has_ended = known.kept is not None and known.in_force(self._now()) is None
        if not has_ended and time.monotonic() - known.looked_at < LOOKED_UP_SECONDS:
            return
        stored = await self._store.get(domain, self._now())
        known.looked_at = time.monotonic()
        known.kept = known.in_force(self._now())
        if stored is not None and (known.kept is None or stored.fetched_at > known.kept.fetched_at):
            known.kept = stored

    def _fetching(self, domain: str, known: _Known, announced: str | None) -> asyncio.Task[None] | None:
        """The fetch that is under way, begun now if need be; None while one that failed is too fresh."""
        if known.fetching is not None:
            return known.fetching
        if time.monotonic() - known.failed_at < RETRY_SECONDS:
            return None
        task = asyncio.get_running_loop().create_task(self._fetch(domain, known, announced))
        known.fetching = task
        self._tasks.add(task)

        def ended(_task: asyncio.Task[None]) -> None:
            known.fetching = None
            self._tasks.discard(task)

        task.add_done_callback(ended)
        return task

    async def _fetch(self, domain: str, known: _Known, announced: str | None) -> None:
        known.failed_at = time.monotonic()  # until it has not
        try:
            async with self._slots:
                policy = await self._files.fetch(domain)
        except NotFetched as error:
            _FETCHES.labels("failed").inc()
            log.info("sts_policy_not_fetched", domain=domain, result=error.fault.result_type, reason=str(error))
            known.failed_at, known.fault = time.monotonic(), error.fault
            return
        _FETCHES.labels("kept").inc()
        policy_id = announced or (known.kept.policy_id if known.kept is not None else "")
        known.kept = KeptPolicy(policy, policy_id, self._now())
        known.failed_at, known.fault = -math.inf, None
        try:
            await self._store.put(domain, known.kept)
        except Temporary as error:
            log.info("sts_policy_not_stored", domain=domain, reason=error.reason)  # this edge holds it meanwhile
