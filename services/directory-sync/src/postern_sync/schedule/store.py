"""Directories as the schedule sees them: due, moved on, noted (SPEC S8). Their settings are the api's."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, Mongo, Session, TenantScope

Document = dict[str, Any]


class DirectoryStore:
    """The directories of all customers."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._all = mongo.collection(Collections.DIRECTORIES, PLATFORM)

    async def of(self, customer_id: str, session: Session) -> Document | None:
        """A customer's directory."""
        directories = self.mongo.collection(Collections.DIRECTORIES, TenantScope(customer_id))
        return await directories.find_one({}, session=session)

    async def due(self, now: datetime, limit: int) -> list[Document]:
        """Directories that are switched on and due, those longest overdue first."""
        shown = {"customer_id": 1, "next_run_at": 1, "interval_hours": 1}
        query = {"next_run_at": {"$lte": now}, "enabled": True}
        return await self._all.find(query, limit=limit, sort=[("next_run_at", 1)], projection=shown)

    async def is_suspended(self, customer_id: str, session: Session) -> bool:
        """Whether nothing of the customer's may change at the moment (SPEC T9)."""
        customers = self.mongo.collection(Collections.CUSTOMERS, TenantScope(customer_id))
        return await customers.find_one({"state": "suspended"}, session=session, projection={"_id": 1}) is not None

    async def move_on(self, directory: Document, next_run_at: datetime, session: Session) -> bool:
        """Move a due time on; False where another worker has, or the settings have changed."""
        directories = self.mongo.collection(Collections.DIRECTORIES, TenantScope(directory["customer_id"]))
        due = {"_id": directory["_id"], "next_run_at": directory["next_run_at"], "enabled": True}
        return bool(await directories.update_one(due, {"$set": {"next_run_at": next_run_at}}, session=session))

    async def note_run(self, customer_id: str, fields: Mapping[str, Any], session: Session) -> None:
        """Note what a run leaves in the directory's document; its version stays, as the settings do."""
        directories = self.mongo.collection(Collections.DIRECTORIES, TenantScope(customer_id))
        await directories.update_one({}, {"$set": dict(fields)}, session=session)

    async def note_good_sync(self, customer_id: str, at: datetime, session: Session) -> None:
        """Note for the mail path that the customer's users are known as of now (SPEC R4)."""
        directory = await self.of(customer_id, session)
        fields: Document = {"last_good_sync_at": at}
        if directory is not None and directory["enabled"]:
            fields["sync_interval_seconds"] = directory["interval_hours"] * 3600
        customers = self.mongo.collection(Collections.CUSTOMERS, TenantScope(customer_id))
        await customers.update_one({}, {"$set": fields}, session=session)

    async def named_runs(self, customer_ids: Sequence[str]) -> set[str]:
        """The runs that these customers' directories name: the last one, and the last good one."""
        shown = {"last_run_id": 1, "last_good.run_id": 1}
        query = {"customer_id": {"$in": list(customer_ids)}}
        found = await self._all.find(query, limit=len(customer_ids), projection=shown)
        named = {directory["last_run_id"] for directory in found}
        named |= {(directory.get("last_good") or {}).get("run_id") for directory in found}
        return named - {None}

    async def ending_credentials(self, before: datetime) -> list[Document]:
        """Directories whose credential ends before that time, or of which that was told before."""
        query = {
            "provider": "entra",
            "enabled": True,
            "$or": [{"entra.credential_expires_at": {"$lte": before}}, {"warned_days": {"$ne": []}}],
        }
        shown = {"customer_id": 1, "warned_days": 1, "entra.credential_expires_at": 1, "entra.client_certificate": 1}
        return [found async for found in self._all.stream(query, projection=shown)]

    async def warn(self, directory: Document, days: list[int], session: Session) -> bool:
        """Note for how many days before the end was warned; False where another worker has."""
        directories = self.mongo.collection(Collections.DIRECTORIES, TenantScope(directory["customer_id"]))
        same = {"_id": directory["_id"], "warned_days": directory["warned_days"]}
        return bool(await directories.update_one(same, {"$set": {"warned_days": days}}, session=session))
