"""Removes the records of runs that ended long ago, a batch at a time (SPEC S17).

A customer's newest good run stays however old it is, and so do the runs that its directory names; a run that is open
has not ended. Plans are gone before by their own time.
"""

from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from prometheus_client import Counter

from postern_common.polling import poll
from postern_sync.runs.store import RunStore
from postern_sync.schedule.store import DirectoryStore

Document = dict[str, Any]
BATCH: Final = 500
LOOK_SECONDS: Final = 3600.0

log = structlog.get_logger(__name__)
_PURGED = Counter("postern_sync_runs_purged_total", "Records of runs that were removed since they were old.")


class Purge:
    """The loop of one process; any number of them may run."""

    def __init__(self, runs: RunStore, directories: DirectoryStore, *, days: int = 90, batch: int = BATCH) -> None:
        self._runs = runs
        self._directories = directories
        self._kept = timedelta(days=days)
        self._batch = batch

    async def run(self) -> None:
        """Look until cancelled."""
        await poll(self.look, every=LOOK_SECONDS, longest=2 * LOOK_SECONDS, waits="purge_waits")

    async def look(self) -> int:
        """Remove all that are old; how many went."""
        before = await self._runs.mongo.now() - self._kept
        removed = 0
        last: Document | None = None
        while True:
            found = await self._runs.ended_before(before, last, self._batch)
            if found:
                removed += await self._remove(found, before)
            if len(found) < self._batch:
                break
            last = found[-1]
        if removed:
            _PURGED.inc(removed)
            log.info("runs_purged", runs=removed)
        return removed

    async def _remove(self, found: list[Document], before: datetime) -> int:
        customer_ids = sorted({run["customer_id"] for run in found})
        kept = await self._directories.named_runs(customer_ids) | await self._runs.newest_good(customer_ids)
        return await self._runs.remove_old([run["_id"] for run in found if run["_id"] not in kept], before)
