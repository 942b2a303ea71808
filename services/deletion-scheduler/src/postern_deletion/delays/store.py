"""Customers whose deletion delay was changed, and the flagged users whose due times are still those of the old one."""

from datetime import datetime
from typing import Any, Final

from postern_common.deletions import NOTICE
from postern_common.documents import Collections, UserState
from postern_common.mongo import PLATFORM, Document, Mongo, Session, TenantScope

CUSTOMERS_AT_ONCE: Final = 100
DAY_MILLISECONDS: Final = 86_400_000
NOTICE_MILLISECONDS: Final = int(NOTICE.total_seconds() * 1000)


class DelayStore:
    """Customers whose delay was changed, and their flagged users."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._customers = mongo.collection(Collections.CUSTOMERS, PLATFORM)

    async def changed(self) -> list[str]:
        """Some customers of whom a change waits, those that wait longest first."""
        query = {"delay_changed_at": {"$exists": True}}
        sort = [("delay_changed_at", 1)]
        found = await self._customers.find(query, limit=CUSTOMERS_AT_ONCE, sort=sort, projection={"_id": 1})
        return [customer["_id"] for customer in found]

    async def hold(self, customer_id: str, session: Session) -> Document | None:
        """The customer, whom nobody else changes, nor flags users of, until the transaction ends."""
        query = {"_id": customer_id, "delay_changed_at": {"$exists": True}}
        return await self._customers.find_one_and_update(query, {"$inc": {"writes": 1}}, session=session)

    async def outdated(self, customer: Document, limit: int, session: Session) -> list[Document]:
        """Flagged users whose due time follows the delay, but not the one of now."""
        users = self.mongo.collection(Collections.USERS, TenantScope(customer["_id"]))
        differs = {"$ne": [{"$ifNull": ["$due_at", None]}, _wanted(customer)]}
        query = {"state": UserState.FLAGGED.value, "due_by": {"$ne": "date"}, "$expr": differs}
        shown = {"flagged_at": 1, "flag_reason": 1}
        return await users.find(query, limit=limit, projection=shown, session=session)

    async def move(
        self, customer_id: str, moved: list[tuple[Document, datetime | None]], now: datetime, session: Session
    ) -> None:
        """Write due times; what was warned of before the old ones is warned of anew."""
        users = self.mongo.collection(Collections.USERS, TenantScope(customer_id))
        changes = [
            ({"_id": user["_id"]}, {"$set": {"due_at": due_at, "updated_at": now}, "$inc": {"version": 1}})
            for user, due_at in moved
        ]
        await users.update_each(changes, session=session)

    async def done(self, customer_id: str, session: Session) -> None:
        """Take the note off the customer."""
        change = {"$unset": {"delay_changed_at": ""}}
        await self._customers.update_one({"_id": customer_id}, change, session=session)


def _wanted(customer: Document) -> Any:
    """`due_by_delay` as the database computes it."""
    if customer["deletion_delay_days"] is None:
        return None
    by_delay = {"$add": ["$flagged_at", customer["deletion_delay_days"] * DAY_MILLISECONDS]}
    return {"$max": [by_delay, {"$add": [customer["delay_changed_at"], NOTICE_MILLISECONDS]}]}
