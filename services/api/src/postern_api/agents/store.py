"""Stored agents: as a customer's administrators see them, and as whoever presents a code or a token is found."""

from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]
SEEN_EVERY: Final = timedelta(seconds=20)


class AgentStore:
    """The agents of one customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._agents = mongo.collection(Collections.AGENTS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._agents

    async def get(self, agent_id: str) -> Document | None:
        """One agent."""
        return await self._agents.find_one({"_id": agent_id})

    async def all(self, most: int, session: Session) -> list[Document]:
        """All of them, as far as there are `most`."""
        return await self._agents.find({}, limit=most, session=session)

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new one."""
        await self._agents.insert_one(document, session=session)

    async def delete(self, agent_id: str, session: Session) -> bool:
        """Remove one: from then on nobody is recognised by its code or tokens."""
        return bool(await self._agents.delete_one({"_id": agent_id}, session=session))


class AgentAccess:
    """Agents above tenants: whose they are is what a code or a token tells."""

    def __init__(self, mongo: Mongo) -> None:
        self._agents = mongo.collection(Collections.AGENTS, PLATFORM)

    async def enrol(self, code_hash: str, now: datetime, changes: Document) -> Document | None:
        """Spend a code: of several who present it one gets the agent."""
        query = {"code_hash": code_hash, "code_expires_at": {"$gt": now}}
        return await self._agents.find_one_and_update(query, {"$set": changes, "$inc": {"version": 1}})

    async def by_token(self, token_hash: str, now: datetime) -> Document | None:
        """The agent of a token that has not expired, be it the one before the newest."""
        query = {"$or": [{"token_hash": token_hash}, {"previous_hash": token_hash}], "token_expires_at": {"$gt": now}}
        return await self._agents.find_one(query)

    async def retire_previous(self, agent_id: str, token_hash: str) -> None:
        """End the token before this one, which has come into use."""
        await self._agents.update_one({"_id": agent_id, "token_hash": token_hash}, {"$set": {"previous_hash": None}})

    async def rotate(self, agent_id: str, presented: str, fresh: str, expires_at: datetime) -> bool:
        """Give a new token beside the one that was presented; False where that has been replaced meanwhile."""
        query = {"_id": agent_id, "$or": [{"token_hash": presented}, {"previous_hash": presented}]}
        change = {"token_hash": fresh, "previous_hash": presented, "token_expires_at": expires_at}
        return bool(await self._agents.update_one(query, {"$set": change}))

    async def seen(self, agent: Document, now: datetime, version: str | None) -> None:
        """Note that the agent called, at most every 20 seconds unless its version is another one."""
        is_fresh = agent["last_seen_at"] is not None and agent["last_seen_at"] > now - SEEN_EVERY
        if is_fresh and version in {None, agent["last_version"]}:
            return
        change: Document = {"last_seen_at": now} | ({} if version is None else {"last_version": version})
        await self._agents.update_one({"_id": agent["_id"]}, {"$set": change})
