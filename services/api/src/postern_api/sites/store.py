"""Stored sites of one customer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from postern_common.documents import Collections, DomainState
from postern_common.mongo import Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]


class SiteStore:
    """The sites of a customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._sites = mongo.collection(Collections.SITES, scope)
        self._domains = mongo.collection(Collections.DOMAINS, scope)
        self._users = mongo.collection(Collections.USERS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._sites

    async def get(self, site_id: str, session: Session | None = None) -> Document | None:
        """One site."""
        return await self._sites.find_one({"_id": site_id}, session=session)

    async def any_other(self, site_id: str | None, session: Session) -> bool:
        """Whether the customer has a site, other than this one."""
        return await self._sites.count({"_id": {"$ne": site_id}}, limit=1, session=session) > 0

    async def has(self, count: int, session: Session) -> bool:
        """Whether the customer has that many sites."""
        return await self._sites.count({}, limit=count, session=session) >= count

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new site."""
        await self._sites.insert_one(document, session=session)

    async def end_default(self, now: datetime, session: Session) -> None:
        """Make no site the default, just before another one becomes it."""
        change = {"$set": {"is_default": False, "updated_at": now}, "$inc": {"version": 1}}
        await self._sites.update_one({"is_default": True}, change, session=session)

    async def change(self, site_id: str, version: int, changes: Mapping[str, Any], session: Session) -> Document | None:
        """Change the version that was read; None if it is gone or has changed."""
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        return await self._sites.find_one_and_update({"_id": site_id, "version": version}, update, session=session)

    async def delete(self, site_id: str, version: int, session: Session) -> bool:
        """Remove the version that was read."""
        return bool(await self._sites.delete_one({"_id": site_id, "version": version}, session=session))

    async def is_used(self, site_id: str, session: Session) -> bool:
        """Whether a domain or a user names the site."""
        for collection in (self._domains, self._users):
            if await collection.count({"site_id": site_id}, limit=1, session=session):
                return True
        return False

    async def verified_domains(self, limit: int) -> list[str]:
        """Names of verified domains, for the test."""
        query = {"state": DomainState.VERIFIED.value}
        found = await self._domains.find(query, limit=limit, sort=[("name", 1)])
        return [document["name"] for document in found]
