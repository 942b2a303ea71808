"""What the delivering half writes beside results: notifications together with the change they tell of, and their
limits; what deliveries show of recipients.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM, DuplicateKey, Mongo, Session, TenantScope
from postern_edge.bodies.store import stored_documents
from postern_edge.messages import Entry
from postern_edge.queue import Queue, Result

HOUR: Final = timedelta(hours=1)


class _LeaseLost(Exception):
    """The result was not written, so nothing may be."""


class NoticeStore:
    """Stores notifications (SPEC R5). `per_hour` bounds how many go to one sender."""

    def __init__(self, mongo: Mongo, queue: Queue, per_hour: int) -> None:
        self._mongo = mongo
        self._queue = queue
        self._per_hour = per_hour
        self._limits = mongo.collection(Collections.DSN_LIMITS, PLATFORM)

    async def permits(self, sender_key: str, now: datetime) -> bool:
        """Count a notification to a sender; False past the limit, so that a forged sender is not flooded."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        counted = await self._limits.find_one_and_update(
            {"_id": f"{sender_key}|{hour:%Y%m%d%H}"},
            {"$inc": {"count": 1}, "$setOnInsert": {"expires_at": hour + 2 * HOUR}},
            upsert=True,
        )
        return counted is not None and int(counted["count"]) <= self._per_hour

    async def record(self, result: Result, notices: Sequence[Entry]) -> bool:
        """Write a result and the notifications that follow from it, all or none; False when the lease was lost."""

        async def work(session: Session) -> None:
            if not await self._queue.record_in(result, session):
                raise _LeaseLost
            bodies, messages = stored_documents(notices)
            if bodies:
                await self._mongo.collection(Collections.BODIES, PLATFORM).insert_many(bodies, session=session)
            await self._mongo.collection(Collections.MESSAGES, PLATFORM).insert_many(messages, session=session)

        try:
            await self._mongo.transact(work)
        except _LeaseLost:
            return False
        return True


class DiscoveryStore:
    """Notes of addresses that customers' own servers took mail for."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def put(self, customer_id: str, key: str, address: str, seen_at: datetime) -> None:
        """Note an address once, however often it is seen, and by how many edges."""
        discoveries = self._mongo.collection(Collections.DISCOVERIES, TenantScope(customer_id))
        first = {"_id": new_id("dis"), "address": address, "seen_at": seen_at}
        with suppress(DuplicateKey):  # another edge was a moment faster
            await discoveries.update_one({"key": key}, {"$setOnInsert": first}, upsert=True)
