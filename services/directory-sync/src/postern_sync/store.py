"""The runs of directory synchronisation as documents (SPEC S17)."""

from datetime import datetime
from typing import Final

from postern_common.directory_documents import SyncRunDocument
from postern_common.documents import Collections
from postern_common.mongo import Mongo, Session, TenantScope

OPEN_STATES: Final = ("requested", "running")


class RunStore:
    """Runs of one customer at a time."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo

    async def fail(self, customer_id: str, run_id: str, reason: str, now: datetime, session: Session) -> bool:
        """End an open run as failed; False if there is no such open run."""
        runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(customer_id))
        ended = {"$set": {"state": "failed", "reason": reason, "finished_at": now}, "$inc": {"version": 1}}
        return bool(await runs.update_one({"_id": run_id, "state": {"$in": OPEN_STATES}}, ended, session=session))

    async def exists(self, customer_id: str, run_id: str, session: Session) -> bool:
        """True if the run has a record, in whatever state."""
        runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(customer_id))
        return await runs.find_one({"_id": run_id}, projection={"_id": 1}, session=session) is not None

    async def add(self, run: SyncRunDocument, session: Session) -> None:
        """Keep the record of a run that was asked for by an event alone."""
        runs = self.mongo.collection(Collections.SYNC_RUNS, TenantScope(run["customer_id"]))
        await runs.insert_one(dict(run), session=session)
