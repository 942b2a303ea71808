"""Removes the records of runs that ended long ago, a batch at a time (SPEC S17).

A customer's newest good run stays however old it is, and so do the runs that its directory names; a run that is open
has not ended. Plans are gone before by their own time.
"""

import asyncio
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from prometheus_client import Counter

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.mongo import PLATFORM, Mongo, TenantScope

Document = dict[str, Any]
BATCH: Final = 500
LOOK_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 60.0
_GOOD: Final = {"state": "completed", "kind": {"$ne": "preview"}}

log = structlog.get_logger(__name__)
_PURGED = Counter("postern_sync_runs_purged_total", "Records of runs that were removed since they were old.")


class Purge:
    """The loop of one process; any number of them may run."""

    def __init__(self, mongo: Mongo, *, days: int = 90, batch: int = BATCH) -> None:
        self._mongo = mongo
        self._kept = timedelta(days=days)
        self._batch = batch
        self._runs = mongo.collection(Collections.SYNC_RUNS, PLATFORM)
        self._directories = mongo.collection(Collections.DIRECTORIES, PLATFORM)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            pause = LOOK_SECONDS
            try:
                await self.look()
            except Temporary as error:
                pause = RETRY_SECONDS
                log.warning("purge_waits", reason=error.reason)
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))

    async def look(self) -> int:
        """Remove all that are old; how many went."""
        before = await self._mongo.now() - self._kept
        removed = 0
        last: Document = {}
        while True:
            found = await self._old(before, last)
            if found:
                removed += await self._remove(found, before)
            if len(found) < self._batch:
                break
            last = found[-1]
        if removed:
            _PURGED.inc(removed)
            log.info("runs_purged", runs=removed)
        return removed

    async def _old(self, before: datetime, last: Document) -> list[Document]:
        """Old runs after `last`, those that ended first coming first."""
        query: Document = {"finished_at": {"$lt": before}}
        if last:
            at = last["finished_at"]
            query["$or"] = [{"finished_at": {"$gt": at}}, {"finished_at": at, "_id": {"$gt": last["_id"]}}]
        shown = {"customer_id": 1, "finished_at": 1}
        return await self._runs.find(query, limit=self._batch, sort=[("finished_at", 1), ("_id", 1)], projection=shown)

    async def _remove(self, found: list[Document], before: datetime) -> int:
        kept = await self._needed({run["customer_id"] for run in found})
        ids = [run["_id"] for run in found if run["_id"] not in kept]
        # By the time too: it is no business of ours who else may have changed one meanwhile.
        return await self._runs.delete_many({"_id": {"$in": ids}, "finished_at": {"$lt": before}}) if ids else 0

    async def _needed(self, customer_ids: Iterable[str]) -> set[str]:
        """The runs of these customers that stay whatever their age."""
        ids = sorted(customer_ids)
        shown = {"last_run_id": 1, "last_good.run_id": 1}
        named = await self._directories.find({"customer_id": {"$in": ids}}, limit=len(ids), projection=shown)
        needed = {directory["last_run_id"] for directory in named}
        needed |= {(directory.get("last_good") or {}).get("run_id") for directory in named}
        for customer_id in ids:
            runs = self._mongo.collection(Collections.SYNC_RUNS, TenantScope(customer_id))
            needed |= {run["_id"] for run in await runs.find(_GOOD, limit=1, sort=[("_id", -1)], projection={"_id": 1})}
        return needed - {None}
