"""Runs as documents: asked for, claimed by lease, written to by whoever holds the lease, ended (SPEC S8, S17)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.mongo import BEFORE, PLATFORM, Mongo, Session, TenantScope
from postern_sync.runs.documents import LEFT

Document = dict[str, Any]
OPEN_STATES: Final = ["requested", "running"]
GOOD: Final = {"state": "completed", "kind": {"$ne": "preview"}}
CANDIDATES: Final = 20
CLAIM_MILLISECONDS: Final = 1000

log = structlog.get_logger(__name__)


class RunStore:
    """The runs of all customers. What is written under a lease names its owner, so that nobody else's write counts."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._all = mongo.collection(Collections.SYNC_RUNS, PLATFORM)

    async def get(self, customer_id: str, run_id: str, session: Session | None = None) -> Document | None:
        """One run."""
        runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(customer_id))
        return await runs.find_one({"_id": run_id}, session=session)

    async def open_run(self, customer_id: str, session: Session) -> Document | None:
        """The customer's run that has not ended."""
        runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(customer_id))
        return await runs.find_one({"is_open": True}, session=session)

    async def add(self, run: Document, session: Session) -> None:
        """Keep a new run; raises `DuplicateKey` while another one of the customer is open."""
        runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(run["customer_id"]))
        await runs.insert_one(run, session=session)

    async def fail_waiting(self, run: Document, fields: Mapping[str, Any], session: Session) -> bool:
        """End a run that nobody has begun."""
        runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(run["customer_id"]))
        change = {"$set": dict(fields), "$unset": LEFT, "$inc": {"version": 1}}
        return bool(await runs.update_one({"_id": run["_id"], "state": "requested"}, change, session=session))

    async def claim(self, owner: str, now: datetime, lease: timedelta) -> Document | None:
        """Take the longest waiting run that no living worker has, and return it as it was before."""
        free: Document = {"is_open": True, "state": {"$in": OPEN_STATES}}
        free["$or"] = [{"lease_until": None}, {"lease_until": {"$lte": now}}]
        change = {
            "$set": {"state": "running", "lease_owner": owner, "lease_until": now + lease},
            "$inc": {"attempts": 1, "version": 1},
        }
        order = [("lease_until", 1), ("_id", 1)]
        for found in await self._all.find(free, limit=CANDIDATES, sort=order, projection={"_id": 1}):
            mine = {**free, "_id": found["_id"]}
            try:
                run = await self._all.find_one_and_update(
                    mine, change, return_document=BEFORE, maxTimeMS=CLAIM_MILLISECONDS
                )
            except Temporary as error:
                # A worker that died in a transaction holds its run until the database ends that: others need not wait.
                log.info("run_not_claimed", run_id=found["_id"], reason=error.reason)
                continue
            if run is not None:
                return run
        return None

    async def write(
        self,
        run: Document,
        owner: str,
        fields: Mapping[str, Any],
        *,
        unset: Mapping[str, Any] | None = None,
        session: Session | None = None,
    ) -> Document | None:
        """Write to a run that `owner` works on, and return it; None where it is no longer the owner's."""
        runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(run["customer_id"]))
        change: Document = {"$set": dict(fields), "$inc": {"version": 1}}
        if unset:
            change["$unset"] = dict(unset)
        mine = {"_id": run["_id"], "state": "running", "lease_owner": owner}
        return await runs.find_one_and_update(mine, change, session=session)

    async def ended_before(self, before: datetime, after: Document | None, limit: int) -> list[Document]:
        """Runs that ended before that time, the oldest first; those that come after a run, where one is given."""
        query: Document = {"finished_at": {"$lt": before}}
        if after is not None:
            at = after["finished_at"]
            query["$or"] = [{"finished_at": {"$gt": at}}, {"finished_at": at, "_id": {"$gt": after["_id"]}}]
        order = [("finished_at", 1), ("_id", 1)]
        return await self._all.find(query, limit=limit, sort=order, projection={"customer_id": 1, "finished_at": 1})

    async def newest_good(self, customer_ids: Iterable[str]) -> set[str]:
        """Of each customer the newest run that did all it was for."""
        found: set[str] = set()
        for customer_id in customer_ids:
            runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(customer_id))
            newest = await runs.find(GOOD, limit=1, sort=[("_id", -1)], projection={"_id": 1})
            found |= {run["_id"] for run in newest}
        return found

    async def remove_old(self, run_ids: Sequence[str], before: datetime) -> int:
        """Remove runs that ended before that time; how many."""
        return await self._all.delete_many({"_id": {"$in": list(run_ids)}, "finished_at": {"$lt": before}})
