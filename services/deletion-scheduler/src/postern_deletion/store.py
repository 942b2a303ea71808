"""The scheduler's queries: due users, and the removal of one."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from pymongo.errors import OperationFailure

from postern_common.deletions import BY_HAND
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

    async def due(
        self, now: datetime, limit: int, skip: Iterable[str] = (), paused: Mapping[str, datetime | None] | None = None
    ) -> list[Document]:
        """Ids of due users with their customers, those longest overdue first; suspended customers are no exception.

        `paused` names customers of whom those wait whom a synchronisation flagged: all, or all flagged after a time.
        """
        query: dict[str, Any] = {**_due(now), "_id": {"$nin": sorted(skip)}}
        whole = sorted(customer_id for customer_id, after in (paused or {}).items() if after is None)
        later = {customer_id: after for customer_id, after in (paused or {}).items() if after is not None}
        waiting: list[Document] = [{"customer_id": {"$in": whole}}] if whole else []
        waiting += [{"customer_id": customer_id, "flagged_at": {"$gt": after}} for customer_id, after in later.items()]
        if waiting:
            query["$or"] = [{"flag_reason": BY_HAND}, {"$nor": waiting}]
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
        """Remove all addresses of the user, and what made one of them known besides (SPEC R4)."""
        keys = [user["email_key"], *(alias["key"] for alias in user["aliases"])]
        known = self.mongo.collection(Collections.KNOWN_ADDRESSES, TenantScope(user["customer_id"]))
        await known.delete_many({"key": {"$in": keys}}, session=session)
        addresses = self.mongo.collection(Collections.ADDRESSES, TenantScope(user["customer_id"]))
        return await addresses.delete_many({"user_id": user["_id"]}, session=session)

    async def remove_memberships(self, user: Document, session: Session) -> int:
        """Take the user out of all lists, and a list's members out of it."""
        memberships = self.mongo.collection(Collections.MEMBERSHIPS, TenantScope(user["customer_id"]))
        either = {"$or": [{"group_id": user["_id"]}, {"member_id": user["_id"]}]}
        return await memberships.delete_many(either, session=session)

    async def directory(self, customer_id: str, session: Session) -> Document | None:
        """The customer's settings of synchronisation, as far as they decide on deletions."""
        directories = self.mongo.collection(Collections.DIRECTORIES, TenantScope(customer_id))
        names = ("enabled", "frozen", "interval_hours", "last_good", "confirmed_at", "updated_at", "rules_changed_at")
        shown = dict.fromkeys(names, 1)
        return await directories.find_one({}, projection=shown, session=session)

    async def to_warn(
        self, days: int, after: datetime, until: datetime, moving: Iterable[str], limit: int
    ) -> list[Document]:
        """Flagged users due in that span who were not told so yet; none of customers whose due times are moving."""
        query = {"state": UserState.FLAGGED.value, "due_at": {"$gt": after, "$lte": until}, **_untold(days)}
        query["customer_id"] = {"$nin": list(moving)}
        return await self._users.find(
            query, limit=limit, sort=[("due_at", 1)], projection={"customer_id": 1, "due_at": 1}
        )

    async def warn(self, user: Document, days: int, session: Session) -> bool:
        """Note the warning; False if the user is not flagged for that time any more, or somebody else told it."""
        due_at = user["due_at"]
        query = {"_id": user["_id"], "state": UserState.FLAGGED.value, "due_at": due_at, **_untold(days)}
        change = {"$set": {"warned": {"due_at": due_at, "days": days}}}
        return bool(await self._users.update_one(query, change, session=session))

    async def customer(self, customer_id: str, session: Session) -> Document | None:
        """What the customer chose: the delay, and for how long deleted users are kept. None where it is gone."""
        customers = self.mongo.collection(Collections.CUSTOMERS, TenantScope(customer_id))
        shown = {"retention": 1, "deletion_delay_days": 1}
        return await customers.find_one({"_id": customer_id}, projection=shown, session=session)

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


def _untold(days: int) -> dict[str, Any]:
    return {"$expr": {"$or": [{"$ne": ["$warned.due_at", "$due_at"]}, {"$gt": ["$warned.days", days]}]}}
