"""Notes of removed customers, and what is still stored of them."""

from datetime import datetime, timedelta
from typing import Final, cast

from postern_common.deletions import RemovedCustomerDocument
from postern_common.documents import Collections
from postern_common.indexes import STORED
from postern_common.mongo import PLATFORM, Mongo, TenantScope

# Mail that was taken is still delivered or returned (SPEC R5). What is done goes by its customer's retention, set when
# it was done, and bodies go with the delivery: smtp-edge sees to both.
KEPT: Final = frozenset({Collections.MESSAGES, Collections.BODIES})
GOING: Final = tuple(name for name, stored in STORED.items() if stored.tenant and name not in KEPT)


class RemovalStore:
    """Customers that are gone."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._notes = mongo.collection(Collections.REMOVED_CUSTOMERS, PLATFORM)

    async def claim(self, now: datetime, lease: timedelta) -> RemovedCustomerDocument | None:
        """Take a note whose time has come, those that wait longest first; others leave it alone meanwhile."""
        change = {"$set": {"next_at": now + lease}}
        found = await self._notes.find_one_and_update({"next_at": {"$lte": now}}, change, sort=[("next_at", 1)])
        return cast("RemovedCustomerDocument | None", found)

    async def look_again(self, customer_id: str, at: datetime) -> None:
        """Have the note taken again at that time."""
        await self._notes.update_one({"_id": customer_id}, {"$set": {"next_at": at}})

    async def forget(self, customer_id: str) -> None:
        """Nothing is left: the note goes."""
        await self._notes.delete_one({"_id": customer_id})

    async def exists(self, customer_id: str) -> bool:
        """Whether the customer is there all the same."""
        customers = self.mongo.collection(Collections.CUSTOMERS, TenantScope(customer_id))
        return await customers.find_one({}, projection={"_id": 1}) is not None

    async def remove_some(self, name: Collections, customer_id: str, limit: int) -> int:
        """Remove at most so many documents of the customer; how many there were."""
        documents = self.mongo.collection(name, TenantScope(customer_id))
        found = await documents.find({}, limit=limit, projection={"_id": 1})
        if found:
            await documents.delete_many({"_id": {"$in": [document["_id"] for document in found]}})
        return len(found)
