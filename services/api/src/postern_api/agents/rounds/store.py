"""Stored rounds of one customer, their pages, and questions to its agents."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from bson.binary import Binary

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Session, TenantScope

Document = dict[str, Any]
LIVE: Final = {"$in": ["asked", "open"]}


class RoundStore:
    """The rounds that runs ask for. There is one at a time, beside one that was given up."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._rounds = mongo.collection(Collections.AGENT_ROUNDS, scope)
        self._pages = mongo.collection(Collections.AGENT_PAGES, scope)
        self._questions = mongo.collection(Collections.AGENT_QUESTIONS, scope)

    async def wanted(self, now: datetime, busy: Sequence[str]) -> Document | None:
        """The newest round that a run waits for."""
        query = {"state": LIVE, "wanted_until": {"$gt": now}, "run_id": {"$nin": list(busy)}}
        found = await self._rounds.find(query, limit=1, sort=[("_id", -1)])
        return found[0] if found else None

    async def of_run(self, run_id: str, session: Session | None = None) -> Document | None:
        """The newest round of a run, while it is not finished."""
        found = await self._rounds.find({"run_id": run_id, "state": LIVE}, limit=1, sort=[("_id", -1)], session=session)
        return found[0] if found else None

    async def get(self, round_id: str, agent_id: str, session: Session | None = None) -> Document | None:
        """A round that this agent has begun."""
        return await self._rounds.find_one({"_id": round_id, "agent_id": agent_id}, session=session)

    async def set(self, found: Document, changes: Mapping[str, Any], session: Session) -> bool:
        """Change a round as it was read; False if it has moved on."""
        query = {name: found[name] for name in ("_id", "state", "agent_id", "upload_id", "pages")}
        return bool(await self._rounds.update_one(query, {"$set": dict(changes)}, session=session))

    async def touch(self, agent_id: str, run_ids: Sequence[str], now: datetime) -> None:
        """Note that an agent is still at a round: reading a large directory it sends nothing for long."""
        query = {"agent_id": agent_id, "state": "open", "run_id": {"$in": list(run_ids)}, "moved_at": {"$lt": now}}
        await self._rounds.update_one(query, {"$set": {"moved_at": now}})

    async def clear_pages(self, round_id: str, session: Session) -> None:
        """Forget what was uploaded."""
        await self._pages.delete_many({"round_id": round_id}, session=session)

    async def page_hash(self, round_id: str, number: int, session: Session) -> str | None:
        """The hash of a page that is there."""
        query = {"round_id": round_id, "number": number}
        found = await self._pages.find_one(query, session=session, projection={"hash": 1})
        return None if found is None else str(found["hash"])

    async def put_page(self, found: Document, number: int, page_hash: str, data: bytes, session: Session) -> None:
        """Keep a page."""
        document = {
            "_id": f"{found['_id']}:{number}",
            "round_id": found["_id"],
            "number": number,
            "hash": page_hash,
            "data": Binary(data),
            "delete_at": found["delete_at"],
        }
        await self._pages.insert_one(document, session=session)

    async def give_up(self, agent_id: str, now: datetime, session: Session) -> None:
        """Let other agents have what an agent was about to send that is no more."""
        query = {"agent_id": agent_id, "state": "open"}
        for found in await self._rounds.find(query, limit=100, session=session):
            await self.clear_pages(found["_id"], session)
            await self._rounds.update_one({"_id": found["_id"]}, {"$set": unbegun(now)}, session=session)

    async def question(self, now: datetime, busy: Sequence[str]) -> Document | None:
        """The oldest question that waits for an answer."""
        query = {"state": "asked", "expires_at": {"$gt": now}, "_id": {"$nin": list(busy)}}
        found = await self._questions.find(query, limit=1, sort=[("_id", 1)])
        return found[0] if found else None

    async def answer(self, question_id: str, answer: Mapping[str, Any], now: datetime) -> bool:
        """Keep the answer to a question; False where nobody waits for it."""
        query = {"_id": question_id, "state": "asked", "expires_at": {"$gt": now}}
        return bool(await self._questions.update_one(query, {"$set": {"state": "answered", "answer": dict(answer)}}))


def unbegun(now: datetime) -> Document:
    """What a round has that no agent has begun."""
    begun: Document = {"state": "asked", "agent_id": None, "upload_id": None, "is_full": None}
    return begun | {"pages": 0, "octets": 0, "entries": 0, "moved_at": now}
