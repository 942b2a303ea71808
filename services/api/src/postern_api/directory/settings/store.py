"""Stored settings of one customer's directory."""

from collections.abc import Mapping
from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Session, TenantScope

Document = dict[str, Any]


class DirectoryStore:
    """The customer's directory, of which there is one at most."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._directories = mongo.collection(Collections.DIRECTORIES, scope)
        self._customers = mongo.collection(Collections.CUSTOMERS, scope)
        self._users = mongo.collection(Collections.USERS, scope)

    async def get(self, session: Session | None = None) -> Document | None:
        """The settings, if there are any."""
        return await self._directories.find_one({}, session=session)

    async def insert(self, document: Document, session: Session) -> None:
        """Keep the first settings; raises `DuplicateKey` where there are some."""
        await self._directories.insert_one(document, session=session)

    async def change(self, version: int, changes: Mapping[str, Any], session: Session) -> Document | None:
        """Change the version that was read; None if it has changed."""
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        return await self._directories.find_one_and_update({"version": version}, update, session=session)

    async def set_interval(self, seconds: int | None, session: Session) -> None:
        """Tell the customer how often its users are synchronised: by that the edge knows when they are out of date."""
        await self._customers.update_one({}, {"$set": {"sync_interval_seconds": seconds}}, session=session)

    async def count_from(self, source: str) -> int:
        """How many users came from a directory."""
        return await self._users.count({"source": source})
