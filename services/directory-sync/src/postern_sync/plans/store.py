"""Stored plans: their items written when a run has planned, read in order when it applies (SPEC S16)."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Session, TenantScope

Document = dict[str, Any]
PAGE: Final = 1000
PLAN_OLD: Final = "plan_too_old"


class PlanStore:
    """The plan of one run."""

    def __init__(self, mongo: Mongo, customer_id: str, run_id: str) -> None:
        self._items = mongo.collection(Collections.PLAN_ITEMS, TenantScope(customer_id))
        self._run_id = run_id

    async def clear(self, session: Session) -> None:
        """Forget what an earlier attempt wrote before it died."""
        await self._items.delete_many({"run_id": self._run_id}, session=session)

    async def put(self, items: Sequence[Document], session: Session) -> None:
        """Keep items."""
        await self._items.insert_many(items, ordered=False, session=session)

    async def groups(self) -> AsyncIterator[list[Document]]:
        """The items that are still to be applied, group by group, in their order."""
        group: list[Document] = []
        last = 0
        while True:
            query = {"run_id": self._run_id, "seq": {"$gt": last}, "state": "planned"}
            page = await self._items.find(query, limit=PAGE, sort=[("seq", 1)])
            for item in page:
                if group and item["group"] != group[0]["group"]:
                    yield group
                    group = []
                group.append(item)
            if len(page) < PAGE:
                break
            last = page[-1]["seq"]
        if group:
            yield group

    async def set_state(self, ids: Sequence[str], state: str, error: str | None, session: Session) -> None:
        """Note what became of items."""
        fields = {"state": state} if error is None else {"state": state, "error": error}
        await self._items.update_many({"_id": {"$in": list(ids)}}, {"$set": fields}, session=session)

    async def outcome(self, session: Session | None = None) -> dict[tuple[str, str], tuple[int, int]]:
        """For each action and state: how many items, and how many addresses or members they are about."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        query = {"run_id": self._run_id}
        wanted = {"action": 1, "state": 1, "change.lose": 1, "change.members": 1}
        async for item in self._items.stream(query, projection=wanted, batch_size=PAGE, session=session):
            things = item["change"].get("members") or item["change"].get("lose") or ()
            items, size = found.get((item["action"], item["state"]), (0, 0))
            found[item["action"], item["state"]] = (items + 1, size + len(things))
        return found

    async def leave_removals(self, session: Session) -> None:
        """Give up what is still to be taken away: the directory may have changed since it was read."""
        query = {"run_id": self._run_id, "destructive": True, "state": "planned"}
        await self._items.update_many(query, {"$set": {"state": "stale", "error": PLAN_OLD}}, session=session)

    async def leaves_flagged(self) -> bool:
        """Whether somebody who is back could not be unflagged."""
        query = {"run_id": self._run_id, "action": "unflag", "state": "failed"}
        return await self._items.count(query, limit=1) > 0

    async def has_error(self, error: str) -> bool:
        """Whether an item was not applied for that reason."""
        return await self._items.count({"run_id": self._run_id, "error": error}, limit=1) > 0

    async def count_done(self) -> int:
        """How many items need no more work."""
        return await self._items.count({"run_id": self._run_id, "state": {"$in": ["applied", "stale", "failed"]}})


class WaitingPlans:
    """The plans of one customer that wait for a decision: what becomes of them when a later run ends (ADR 0008).

    Only the newest one can be approved, so that no other goes on saying that it waits. Previews change nothing, and so
    neither does their end.
    """

    def __init__(self, mongo: Mongo, customer_id: str) -> None:
        self._runs = mongo.collection(Collections.SYNC_RUNS, TenantScope(customer_id))

    async def settle(self, run: Document, session: Session, *, is_whole: bool) -> None:
        """`run` has applied its plan, all of it or a part: what it approves is approved, older ones are replaced."""
        if run["approves"] is not None and is_whole:
            approved = {"$set": {"approved_by": run["_id"]}, "$inc": {"version": 1}}
            await self._runs.update_one({"_id": run["approves"]}, approved, session=session)
            await self._end({"_id": run["approves"]}, {"state": "approved"}, session)
        await self._end({"_id": {"$lt": run["_id"]}}, {"state": "superseded", "superseded_by": run["_id"]}, session)

    async def outdate(self, approval: Document, session: Session) -> None:
        """The approval found that the plan comes out differently now."""
        outdated = {"state": "superseded", "superseded_by": approval["_id"]}
        await self._end({"_id": approval["approves"]}, outdated, session)

    async def _end(self, which: Document, fields: Document, session: Session) -> None:
        change = {"$set": fields, "$inc": {"version": 1}}
        await self._runs.update_many({**which, "state": "held"}, change, session=session)
