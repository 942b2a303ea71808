"""The scheduler's queries: due users, and the removal of one."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from pymongo.errors import OperationFailure

from postern_common.documents import Collections, UserState
from postern_common.mongo import PLATFORM, Document, Mongo, Session, TenantScope

_WRITE_CONFLICT: Final = 112


class Contended(Exception):
    """Another transaction holds the user.

    A scheduler deletes it, an administrator changes it, or one was killed in the middle: the database ends the
    transaction of a dead client after `transactionLifetimeLimitSeconds`.
    """


class UserStore:
    """Users of all customers, as the scheduler sees them."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._users = mongo.collection(Collections.USERS, PLATFORM)

    async def due(self, now: datetime, limit: int, skip: Iterable[str] = ()) -> list[Document]:
        """Ids of due users with their customers, those longest overdue first; suspended customers are no exception."""
        query = {**_due(now), "_id": {"$nin": sorted(skip)}}
        return await self._users.find(query, limit=limit, sort=[("due_at", 1)], projection={"customer_id": 1})

    async def count_due(self, now: datetime) -> int:
        """How many users are due."""
        return await self._users.count(_due(now))

    async def take(self, user_id: str, now: datetime, session: Session) -> Document | None:
        """Remove the user if still flagged and due: this step decides who deletes, and whether at all (CASES 72).

        Raises `Contended` at once, rather than waiting, where another transaction holds the user.
        """
        try:
            return await self._users.find_one_and_delete({"_id": user_id, **_due(now)}, session=session)
        except OperationFailure as error:
            if error.code == _WRITE_CONFLICT:
                raise Contended from error
            raise

    async def remove_addresses(self, user: Document, session: Session) -> int:
        """Remove all addresses of the user."""
        addresses = self.mongo.collection(Collections.ADDRESSES, TenantScope(user["customer_id"]))
        return await addresses.delete_many({"user_id": user["_id"]}, session=session)

    async def kept_days(self, customer_id: str, session: Session) -> int | None:
        """For how many days the customer keeps deleted users; None where the customer is gone."""
        customers = self.mongo.collection(Collections.CUSTOMERS, TenantScope(customer_id))
        found = await customers.find_one({"_id": customer_id}, projection={"retention": 1}, session=session)
        return int(found["retention"]["deleted_users_days"]) if found else None

    async def keep(self, user: Document, deleted_at: datetime, purge_at: datetime, session: Session) -> None:
        """Keep what restoring needs; a user who was restored and is deleted again replaces what was kept before."""
        deleted = self.mongo.collection(Collections.DELETED_USERS, TenantScope(user["customer_id"]))
        kept = {
            "email_key": user["email_key"],
            "immutable_id": user["immutable_id"],
            "user": user,
            "deleted_at": deleted_at,
            "purge_at": purge_at,
        }
        await deleted.update_one({"_id": user["_id"]}, {"$set": kept}, upsert=True, session=session)


def _due(now: datetime) -> dict[str, Any]:
    return {"state": UserState.FLAGGED.value, "due_at": {"$lte": now}}
