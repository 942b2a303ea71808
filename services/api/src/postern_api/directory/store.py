"""Stored runs of one customer. The API asks for them; directory-sync does the rest."""

from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]


class RunStore:
    """The runs of a customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._runs = mongo.collection(Collections.SYNC_RUNS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._runs

    async def get(self, run_id: str) -> Document | None:
        """One run."""
        return await self._runs.find_one({"_id": run_id})

    async def under_way(self, session: Session) -> Document | None:
        """The run that has not ended, if there is one."""
        return await self._runs.find_one({"state": {"$in": ["requested", "running"]}}, session=session)

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new run."""
        await self._runs.insert_one(document, session=session)
