"""Counts what came of TLS sessions to receiving domains, for reports to them (RFC 8460).

Counting is memory alone; every few seconds, and when the process stops, the sums are added to the stored ones. What a
process counted since then is lost with it when it is killed. A write whose answer was lost may be made twice: a report
is statistics, and nothing is decided by it.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Final

import structlog
from prometheus_client import Counter

from postern_common.errors import Temporary
from postern_common.polling import poll
from postern_edge.rules.tls_policy import Reported, TlsFault
from postern_edge.rules.tls_tally import Tally
from postern_edge.tls_out.store import TlsResultStore

BATCH: Final = 200
PAUSE_SECONDS: Final = 15.0
LONGEST_PAUSE_SECONDS: Final = 120.0

log = structlog.get_logger(__name__)
_DROPPED: Final = Counter("postern_edge_tls_results_dropped_total", "TLS results that there was no room to count.")


class TlsCounts:
    """Counts and writes."""

    def __init__(self, store: TlsResultStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._tally = Tally()

    def add(self, reported: Reported, fault: TlsFault | None, host: str, ends: tuple[str, str]) -> None:
        """Count one session with a server: a success, or a fault; `ends` are the addresses of both sides."""
        if not self._tally.add(self._now(), reported, fault, host, ends):
            _DROPPED.inc()

    async def run(self) -> None:
        """Write until cancelled; back off while the database is away."""
        await poll(self.flush, every=PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS, waits="tls_results_wait")

    async def flush(self) -> None:
        """Add what was counted to what is stored. What cannot be written is counted on; raises `Temporary`."""
        taken, self._tally = self._tally, Tally()
        try:
            while taken.sums:
                batch = list(islice(taken.sums.items(), BATCH))
                await self._store.put(batch)
                for key, _ in batch:
                    del taken.sums[key]
        finally:
            _DROPPED.inc(self._tally.merge(taken))

    async def drain(self) -> None:
        """Write what is left, once; whatever cannot be written is lost, and the log says so."""
        try:
            await self.flush()
        except Temporary as error:
            log.warning("tls_results_lost", policies=len(self._tally.sums), reason=error.reason)
