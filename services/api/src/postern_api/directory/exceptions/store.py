"""Stored exceptions of one customer."""

import re
from collections.abc import Mapping
from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]


class ExceptionStore:
    """What the customer's synchronisation leaves out."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._exceptions = mongo.collection(Collections.DIRECTORY_EXCEPTIONS, scope)
        self._users = mongo.collection(Collections.USERS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._exceptions

    async def get(self, exception_id: str, session: Session | None = None) -> Document | None:
        """One exception."""
        return await self._exceptions.find_one({"_id": exception_id}, session=session)

    async def name_of(self, external_id: str) -> str:
        """What a user or group of the directory who is here is known by; empty where none is."""
        wanted = {"email": 1, "first_name": 1, "last_name": 1}
        found = await self._users.find_one({"external_id": external_id}, projection=wanted)
        if found is None:
            return ""
        return f"{found['first_name']} {found['last_name']}".strip() or str(found["email"])

    async def like(self, document: Mapping[str, Any]) -> Document | None:
        """The exception for the same thing."""
        return await self._exceptions.find_one({name: document[name] for name in ("kind", "external_id", "key")})

    async def has(self, count: int, session: Session) -> bool:
        """Whether there are that many."""
        return await self._exceptions.count({}, limit=count, session=session) >= count

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new one; raises `DuplicateKey` where there is one for the same thing."""
        await self._exceptions.insert_one(document, session=session)

    async def change(self, one: Document, changes: Mapping[str, Any], session: Session) -> Document | None:
        """Change the version that was read; None if it is gone or has changed."""
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        query = {"_id": one["_id"], "version": one["version"]}
        return await self._exceptions.find_one_and_update(query, update, session=session)

    async def delete(self, one: Document, session: Session) -> bool:
        """Remove the version that was read."""
        return bool(await self._exceptions.delete_one({"_id": one["_id"], "version": one["version"]}, session=session))


def containing(text: str) -> Document:
    """The filter for exceptions with `text` in the label or address."""
    pattern = {"$regex": re.escape(text), "$options": "i"}
    return {"$or": [{"label": pattern}, {"key": pattern}]}
