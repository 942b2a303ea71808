"""Rounds, pages and questions of one customer's agents, as directory-sync asks for and takes them."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_common.mongo import Mongo, Session, TenantScope

Document = dict[str, Any]
KEPT: Final = timedelta(hours=24)
WANTED: Final = timedelta(seconds=60)
LIVE: Final = {"$in": ["asked", "open", "finished", "failed"]}


class AgentStore:
    """What is asked of the agents of one customer, and what they sent."""

    def __init__(self, mongo: Mongo, customer_id: str) -> None:
        self._mongo = mongo
        scope = TenantScope(customer_id)
        self._agents = mongo.collection(Collections.AGENTS, scope)
        self._rounds = mongo.collection(Collections.AGENT_ROUNDS, scope)
        self._pages = mongo.collection(Collections.AGENT_PAGES, scope)
        self._questions = mongo.collection(Collections.AGENT_QUESTIONS, scope)
        self._runs = mongo.collection(Collections.SYNC_RUNS, scope)

    async def now(self) -> datetime:
        """The database's time."""
        return await self._mongo.server_time()

    async def last_seen(self) -> datetime | None:
        """When one of the agents called last; None where none is enrolled."""
        found = await self._agents.find(
            {"last_seen_at": {"$type": "date"}}, limit=1, sort=[("last_seen_at", -1)], projection={"last_seen_at": 1}
        )
        return found[0]["last_seen_at"] if found else None

    async def run_under_way(self) -> str:
        """The customer's open run, of which there is one."""
        found = await self._runs.find_one({"is_open": True}, projection={"_id": 1})
        return str(found["_id"]) if found is not None else new_id("run")

    async def of_run(self, run_id: str) -> Document | None:
        """The newest round of a run."""
        found = await self._rounds.find({"run_id": run_id, "state": LIVE}, limit=1, sort=[("_id", -1)])
        return found[0] if found else None

    async def ask(self, run_id: str, base: str | None, settings: Document) -> Document:
        """Ask for a round, and forget those that other runs have left."""
        now = await self.now()
        document: Document = {
            "_id": new_id("rnd"),
            "run_id": run_id,
            "state": "asked",
            "base": base,
            "settings": settings,
            "agent_id": None,
            "upload_id": None,
            "is_full": None,
            "pages": 0,
            "octets": 0,
            "entries": 0,
            "statement": None,
            "failure": None,
            "asked_at": now,
            "moved_at": now,
            "wanted_until": now + WANTED,
            "delete_at": now + KEPT,
        }

        async def work(session: Session) -> None:
            await self._pages.delete_many({}, session=session)
            await self._rounds.delete_many({}, session=session)
            await self._rounds.insert_one(dict(document), session=session)

        await self._mongo.transact(work)
        return document

    async def look(self, round_id: str) -> Document | None:
        """A round as it is now; it stays wanted for another minute."""
        change = {"$set": {"wanted_until": await self.now() + WANTED}}
        return await self._rounds.find_one_and_update({"_id": round_id}, change)

    async def pages(self, found: Document) -> AsyncIterator[bytes]:
        """The pages of a round in order, packed as they came."""
        number = 0
        async for page in self._pages.stream({"round_id": found["_id"]}, sort=[("number", 1)], batch_size=4):
            if page["number"] != number:
                return
            number += 1
            yield bytes(page["data"])

    async def drop(self, round_id: str) -> None:
        """Forget a round."""
        await self._rounds.delete_one({"_id": round_id})
        await self._pages.delete_many({"round_id": round_id})

    async def withdraw(self, run_id: str, session: Session) -> None:
        """Have no agent read for a run that ends, nor send what it has begun to."""
        for found in await self._rounds.find({"run_id": run_id}, limit=100, projection={"_id": 1}, session=session):
            await self._pages.delete_many({"round_id": found["_id"]}, session=session)
            await self._rounds.delete_one({"_id": found["_id"]}, session=session)

    async def put_question(self, kind: str, settings: Document, query: Document, lasts: timedelta) -> str:
        """Ask the agent something; the question's id."""
        now, question_id = await self.now(), new_id("req")
        document = {
            "_id": question_id,
            "kind": kind,
            "settings": settings,
            "query": query,
            "state": "asked",
            "answer": None,
            "created_at": now,
            "expires_at": now + lasts,
        }
        await self._questions.insert_one(document)
        return question_id

    async def answer_of(self, question_id: str) -> Document | None:
        """The answer to a question, once there is one."""
        found = await self._questions.find_one({"_id": question_id, "state": "answered"})
        return found["answer"] if found is not None else None

    async def forget_question(self, question_id: str) -> None:
        """Nobody waits for the answer any more."""
        await self._questions.delete_one({"_id": question_id})
