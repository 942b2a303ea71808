"""Stored additions of one customer."""

import re
from collections.abc import Mapping
from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]


class AdditionStore:
    """What the customer adds to the directory."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._additions = mongo.collection(Collections.DIRECTORY_ADDITIONS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._additions

    async def get(self, addition_id: str) -> Document | None:
        """One addition."""
        return await self._additions.find_one({"_id": addition_id})

    async def of_address(self, key: str) -> Document | None:
        """The addition of an address."""
        return await self._additions.find_one({"key": key})

    async def has(self, count: int, session: Session) -> bool:
        """Whether there are that many."""
        return await self._additions.count({}, limit=count, session=session) >= count

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new one; raises `DuplicateKey` where there is one of the address."""
        await self._additions.insert_one(document, session=session)

    async def change(self, one: Document, changes: Mapping[str, Any], session: Session) -> Document | None:
        """Change the version that was read; None if it is gone or has changed."""
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        query = {"_id": one["_id"], "version": one["version"]}
        return await self._additions.find_one_and_update(query, update, session=session)

    async def delete(self, one: Document, session: Session) -> bool:
        """Remove the version that was read."""
        return bool(await self._additions.delete_one({"_id": one["_id"], "version": one["version"]}, session=session))


def containing(text: str) -> Document:
    """The filter for additions with `text` in the address or a name."""
    pattern = {"$regex": re.escape(text), "$options": "i"}
    return {"$or": [{field: pattern} for field in ("key", "first_name", "last_name")]}
