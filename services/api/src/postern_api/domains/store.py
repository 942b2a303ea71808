"""Stored domains of one customer, and what hangs on them when one is removed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from postern_common.documents import Collections, DomainState
from postern_common.mongo import PLATFORM, Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]


class DomainStore:
    """The domains of a customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._domains = mongo.collection(Collections.DOMAINS, scope)
        self._users = mongo.collection(Collections.USERS, scope)
        self._addresses = mongo.collection(Collections.ADDRESSES, scope)
        self._sites = mongo.collection(Collections.SITES, scope)
        self._everywhere = mongo.collection(Collections.DOMAINS, PLATFORM)
        self._customer_id = scope.customer_id

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._domains

    async def get(self, name: str, session: Session | None = None) -> Document | None:
        """The domain of an A-label."""
        return await self._domains.find_one({"name": name}, session=session)

    async def has(self, count: int, session: Session) -> bool:
        """Whether the customer has that many domains."""
        return await self._domains.count({}, limit=count, session=session) >= count

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new domain."""
        await self._domains.insert_one(document, session=session)

    async def is_verified_elsewhere(self, name: str, session: Session) -> bool:
        """Whether another customer holds it; whose it is stays inside."""
        query = {"name": name, "state": DomainState.VERIFIED.value, "customer_id": {"$ne": self._customer_id}}
        return await self._everywhere.count(query, limit=1, session=session) > 0

    async def change(
        self, domain_id: str, expected: Mapping[str, Any], changes: Mapping[str, Any], session: Session
    ) -> Document | None:
        """Change the domain if `expected` still holds; None otherwise."""
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        return await self._domains.find_one_and_update({**expected, "_id": domain_id}, update, session=session)

    async def request_check(self, domain_id: str, at: datetime) -> None:
        """Ask the verifier for a look at once; no change of the resource."""
        await self._domains.update_one({"_id": domain_id}, {"$set": {"requested_at": at, "next_check_at": at}})

    async def request_mail_look(self, domain_id: str, at: datetime, *, is_awaited: bool) -> None:
        """Ask the verifier to look at the mail records at once; `is_awaited` where somebody waits for it."""
        asked = {"mail_requested_at": at} if is_awaited else {}
        await self._domains.update_one({"_id": domain_id}, {"$set": {**asked, "mail_dns_next_at": at}})

    async def has_site(self, site_id: str, session: Session) -> bool:
        """Whether the customer has the site."""
        return await self._sites.find_one({"_id": site_id}, session=session) is not None

    async def users_primarily_in(self, name: str, limit: int, session: Session) -> list[Document]:
        """Some of the users whose primary address is in the domain."""
        found = await self._addresses.find({"domain": name, "is_primary": True}, limit=limit, session=session)
        ids = [address["user_id"] for address in found]
        return await self._users.find({"_id": {"$in": ids}}, limit=limit, session=session) if ids else []

    async def aliases_in(self, name: str, limit: int, session: Session) -> list[Document]:
        """Some of the secondary addresses in the domain."""
        return await self._addresses.find({"domain": name, "is_primary": False}, limit=limit, session=session)

    async def take_off_alias(self, address: Document, now: datetime, session: Session) -> None:
        """Remove one secondary address from its user."""
        await self._addresses.delete_one({"key": address["key"]}, session=session)
        change = {
            "$pull": {"aliases": {"key": address["key"]}},
            "$set": {"updated_at": now},
            "$inc": {"version": 1},
        }
        await self._users.update_one({"_id": address["user_id"]}, change, session=session)

    async def delete(self, domain_id: str, session: Session) -> bool:
        """Remove the domain itself."""
        return bool(await self._domains.delete_one({"_id": domain_id}, session=session))
