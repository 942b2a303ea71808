"""Plans that wait for a decision: what becomes of them when a later run of the customer ends (SPEC S16, ADR 0008).

Only the newest held plan can be approved, so that no other one goes on saying that it waits. Previews change nothing,
and so neither does their end.
"""

from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Session, TenantScope


class WaitingPlans:
    """The held runs of one customer."""

    def __init__(self, mongo: Mongo, customer_id: str) -> None:
        self._runs = mongo.collection(Collections.SYNC_RUNS, TenantScope(customer_id))

    async def settle(self, run: dict[str, Any], session: Session) -> None:
        """`run` has applied its plan: the one that it approves is approved, older ones are replaced."""
        if run["approves"] is not None:
            approved = {"$set": {"approved_by": run["_id"]}, "$inc": {"version": 1}}
            await self._runs.update_one({"_id": run["approves"]}, approved, session=session)
            await self._end({"_id": run["approves"]}, {"state": "approved"}, session)
        await self._end({"_id": {"$lt": run["_id"]}}, {"state": "superseded", "superseded_by": run["_id"]}, session)

    async def outdate(self, approval: dict[str, Any], session: Session) -> None:
        """The approval found that the plan comes out differently now."""
        outdated = {"state": "superseded", "superseded_by": approval["_id"]}
        await self._end({"_id": approval["approves"]}, outdated, session)

    async def _end(self, which: dict[str, Any], fields: dict[str, Any], session: Session) -> None:
        change = {"$set": fields, "$inc": {"version": 1}}
        await self._runs.update_many({**which, "state": "held"}, change, session=session)
