"""Stored tokens, as their owner sees them: a principal's own, or a customer's."""

from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, Mongo, Scoped, Session


class OwnedTokens:
    """The tokens of one owner."""

    def __init__(self, mongo: Mongo, owner_id: str) -> None:
        self._tokens = mongo.collection(Collections.TOKENS, PLATFORM)
        self._owner: dict[str, Any] = {"owner_id": owner_id}

    @property
    def collection(self) -> Scoped:
        """For reading pages with `query`."""
        return self._tokens

    @property
    def query(self) -> dict[str, Any]:
        """The filter for the owner's tokens."""
        return dict(self._owner)

    async def has(self, count: int, session: Session) -> bool:
        """Whether the owner has that many tokens."""
        return await self._tokens.count(self._owner, limit=count, session=session) >= count

    async def insert(self, document: dict[str, Any], session: Session) -> None:
        """Keep a new token."""
        await self._tokens.insert_one(document, session=session)

    async def get(self, token_id: str) -> dict[str, Any] | None:
        """One of them."""
        return await self._tokens.find_one({**self._owner, "_id": token_id})

    async def delete(self, token_id: str, session: Session) -> bool:
        """Remove one, and those that were made with it."""
        if not await self._tokens.delete_one({**self._owner, "_id": token_id}, session=session):
            return False
        await self._tokens.delete_many({"ancestors": token_id}, session=session)
        return True
