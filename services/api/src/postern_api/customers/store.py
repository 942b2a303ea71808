"""Stored customers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

from postern_api.auth.roles import Principal, Role
from postern_common.deletions import RemovedCustomerDocument
from postern_common.documents import Collections, CustomerDocument
from postern_common.mongo import PLATFORM, Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]
# What lets anybody in, or has a directory read: the rest of a removed customer goes after it, in batches.
_AT_ONCE: Final = (Collections.DIRECTORIES, Collections.AGENTS)


def visible_to(principal: Principal) -> Document:
    """The filter for the customers that a principal administers (SPEC T1)."""
    if principal.role is Role.PLATFORM_ADMIN:
        return {}
    if principal.role is Role.PARTNER_ADMIN:
        return {"partner_id": principal.partner_id or ""}
    return {"_id": {"$in": sorted(principal.customer_ids)}}


class CustomerStore:
    """Customers, above tenants: whoever asks has been judged by `tenancy`."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._customers = mongo.collection(Collections.CUSTOMERS, PLATFORM)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._customers

    async def get(self, customer_id: str) -> CustomerDocument | None:
        """One customer."""
        return cast("CustomerDocument | None", await self._customers.find_one({"_id": customer_id}))

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new customer."""
        await self._customers.insert_one(document, session=session)

    async def change(
        self, customer_id: str, version: int, changes: Mapping[str, Any], session: Session
    ) -> Document | None:
        """Change the version that was read; None if it is gone or has changed."""
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        return await self._customers.find_one_and_update(
            {"_id": customer_id, "version": version}, update, session=session
        )

    async def lock(self, customer_id: str, session: Session) -> CustomerDocument | None:
        """Make this transaction the only one that creates or removes things of the customer.

        Two of them write the same field, so that one waits and begins again: neither counts what the other is adding.
        """
        update = {"$inc": {"writes": 1}}
        found = await self._customers.find_one_and_update({"_id": customer_id}, update, session=session)
        return cast("CustomerDocument | None", found)

    async def holds_something(self, customer_id: str, session: Session) -> bool:
        """Whether domains, sites or users are left."""
        scope = TenantScope(customer_id)
        for name in (Collections.DOMAINS, Collections.SITES, Collections.USERS):
            if await self._mongo.collection(name, scope).count({}, limit=1, session=session):
                return True
        return False

    async def delete(self, customer_id: str, version: int, now: datetime, session: Session) -> bool:
        """Remove the customer with its tokens, and how its directory is read, so that nobody reads it any more.

        The note that is left has deletion-scheduler remove all else.
        """
        for name in _AT_ONCE:
            await self._mongo.collection(name, TenantScope(customer_id)).delete_many({}, session=session)
        await self._mongo.collection(Collections.TOKENS, PLATFORM).delete_many(
            {"owner_id": customer_id}, session=session
        )
        note = RemovedCustomerDocument(_id=customer_id, removed_at=now, next_at=now)
        await self._mongo.collection(Collections.REMOVED_CUSTOMERS, PLATFORM).insert_one(
            cast(Document, note), session=session
        )
        return bool(await self._customers.delete_one({"_id": customer_id, "version": version}, session=session))
