"""Stored runs of one customer and their plans. The API asks for them and decides; directory-sync does the rest."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]
OPEN: Final = {"state": {"$in": ["requested", "running"]}}
# Runs that ended so have moved nothing, unless they found the plan stale.
_WITHOUT_EFFECT: Final = ["failed", "cancelled"]


class RunStore:
    """The runs of a customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._runs = mongo.collection(Collections.SYNC_RUNS, scope)
        self._items = mongo.collection(Collections.PLAN_ITEMS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages of runs."""
        return self._runs

    @property
    def items(self) -> Scoped:
        """For reading pages of plans."""
        return self._items

    async def get(self, run_id: str, session: Session | None = None) -> Document | None:
        """One run."""
        return await self._runs.find_one({"_id": run_id}, session=session)

    async def under_way(self, session: Session | None = None) -> Document | None:
        """The run that has not ended, if there is one."""
        return await self._runs.find_one(OPEN, session=session)

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new run; raises `DuplicateKey` while another one has not ended."""
        await self._runs.insert_one(document, session=session)

    async def waiting(self, since: datetime) -> str | None:
        """The run begun since then whose plan waits for a decision; of several the newest, the one to be approved."""
        query = {"state": "held", "started_at": {"$gte": since}}
        found = await self._runs.find(query, limit=1, sort=[("_id", -1)], projection={"_id": 1})
        return found[0]["_id"] if found else None

    async def has_newer(self, run_id: str, stale_reason: str, session: Session) -> bool:
        """Whether a later run has looked at the directory since and acted, or found this one's plan stale."""
        acted = {"state": {"$nin": _WITHOUT_EFFECT}, "kind": {"$ne": "preview"}}
        counts = {"$or": [acted, {"approves": run_id, "reason": stale_reason}]}
        return await self._runs.find_one({"_id": {"$gt": run_id}, **counts}, session=session) is not None

    async def end(self, run_id: str, state: str, ended: Mapping[str, Any], session: Session) -> Document | None:
        """End a run that is in `state`; None if it is no longer."""
        change = {"$set": dict(ended), "$unset": {"is_open": ""}, "$inc": {"version": 1}}
        return await self._runs.find_one_and_update({"_id": run_id, "state": state}, change, session=session)

    async def ask_to_stop(self, run_id: str, session: Session) -> Document | None:
        """Tell a running run to stop; None if it runs no longer."""
        change = {"$set": {"cancel_requested": True}, "$inc": {"version": 1}}
        return await self._runs.find_one_and_update({"_id": run_id, "state": "running"}, change, session=session)


def cancelled(now: datetime, reason: str) -> Document:
    """What is set of a run that is called off before it began."""
    return {"state": "cancelled", "phase": "ended", "reason": reason, "finished_at": now}


def labelled(text: str) -> Document:
    """The filter for changes with `text` in the address or name."""
    return {"label": {"$regex": re.escape(text), "$options": "i"}}
