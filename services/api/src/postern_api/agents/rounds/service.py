"""What an agent is asked for, and what it sends (SPEC L4).

Pages lie beside the mirror until the round is finished, and the run that asked for it takes them: a round that breaks
off changes nothing. All writes are repeatable: a page that came is answered the same again, and a round that was cut
goes on at the page that is missing.
"""

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from postern_api.agents.door import Agent
from postern_api.agents.rounds.schemas import (
    Failure,
    NewRound,
    PutQuestion,
    ReadSettings,
    Round,
    SentAnswer,
    SentPage,
    Statement,
    WantedRound,
    Work,
    WorkQuery,
)
from postern_api.agents.rounds.store import RoundStore, unbegun
from postern_api.directory.waiting import first_of
from postern_api.http.problems import Problem, conflict, not_found
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]
# An agent that sends nothing for so long has left its round to others.
SILENT: Final = timedelta(minutes=2)
# A run that was cancelled looks at its round no more; one whose worker died does so again once another has it.
ABANDONED: Final = timedelta(minutes=15)
LOOK_SECONDS: Final = 1.0


class Rounds:
    """What one agent does for its customer."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._resources = agent.resources
        self._store = RoundStore(agent.resources.mongo, agent.scope)

    async def work(self, query: WorkQuery, is_gone: Callable[[], Awaitable[bool]]) -> Work:
        """What there is to do, as soon as there is something; nothing where the agent has hung up."""
        nothing = Work(round=None, question=None, now=self._resources.now())
        if query.busy:
            await self._store.touch(self._agent.id, query.busy, nothing.now)

        async def look() -> Work | None:
            found = await self._work(query)
            return nothing if found is None and await is_gone() else found

        settings = self._resources.settings
        most = max(1, settings.api_max_requests // 4)
        with self._resources.agent_room.waiting(self._agent.id, most) as has_room:
            seconds = min(float(query.wait), settings.api_agent_wait_seconds) if has_room else 0.0
            return await first_of(look, seconds, longest=LOOK_SECONDS) or nothing

    async def _work(self, query: WorkQuery) -> Work | None:
        now = self._resources.now()
        wanted = await self._store.wanted(now, query.busy)
        if wanted is not None and self._is_others(wanted):
            wanted = None
        question = await self._store.question(now, query.busy)
        if wanted is None and question is None:
            return None
        return Work(
            round=None
            if wanted is None
            else WantedRound(run_id=wanted["run_id"], settings=ReadSettings(**wanted["settings"])),
            question=None if question is None else _question(question),
            now=now,
        )

    def _is_others(self, found: Document) -> bool:
        """Whether another agent is at it."""
        if found["state"] != "open" or found["agent_id"] == self._agent.id:
            return False
        return bool(found["moved_at"] > self._resources.now() - SILENT)

    async def begin(self, body: NewRound) -> Round:
        """Begin a round, or go on with it."""

        async def work(session: Session) -> Round:
            found = await self._store.of_run(body.run_id, session)
            if found is None:
                raise not_found()
            if self._is_others(found):
                raise conflict("wrong-state", "Another agent reads the directory for this run.")
            base = found["base"] if found["base"] in body.known else None
            is_same = found["agent_id"] == self._agent.id and found["upload_id"] == body.upload_id
            # An agent that lost its state meanwhile sends everything, from the first page.
            if is_same and found["is_full"] == (base is None):
                return _round(found, base, found["pages"])
            changes = unbegun(self._resources.now()) | {
                "state": "open",
                "agent_id": self._agent.id,
                "upload_id": body.upload_id,
                "is_full": base is None,
            }
            await self._store.clear_pages(found["_id"], session)
            await self._set(found, changes, session)
            return _round(found, base, 0)

        return await self._resources.transact(work)

    async def put_page(self, round_id: str, number: int, upload_id: str, page: SentPage, body: "Body") -> None:
        """Keep a page; the same page again is fine."""
        page_hash, settings = hashlib.sha256(body.plain).hexdigest(), self._resources.settings
        if len(body.packed) > settings.api_max_body_bytes:
            raise Problem("body-too-large", f"A page may have {settings.api_max_body_bytes} octets.", status=413)

        async def work(session: Session) -> None:
            found = await self._open(round_id, upload_id, session)
            if number < found["pages"]:
                if await self._store.page_hash(round_id, number, session) != page_hash:
                    raise _out_of_step("Another page of this number is there already.", found["pages"])
                return
            if number > found["pages"]:
                raise _out_of_step("A page before this one is missing.", found["pages"])
            # Packed they may be a thousandth of what the run has to lay out.
            octets = found["octets"] + max(len(body.packed), len(body.plain))
            if octets > settings.api_max_agent_round_bytes:
                raise Problem("body-too-large", "The directory is larger than what is taken.", status=413)
            changes = {
                "pages": number + 1,
                "octets": octets,
                "entries": found["entries"] + len(page.entries),
                "moved_at": self._resources.now(),
            }
            await self._set(found, changes, session)
            await self._store.put_page(found, number, page_hash, body.packed, session)

        try:
            await self._resources.transact(work)
        except DuplicateKey:
            raise _out_of_step("This page has just come.", number) from None

    async def finish(self, round_id: str, body: Statement) -> None:
        """Take the statement that everything was sent."""

        async def work(session: Session) -> None:
            found = await self._mine(round_id, session)
            if found["state"] == "finished" and found["upload_id"] == body.upload_id:
                return
            found = await self._open(round_id, body.upload_id, session)
            if body.pages != found["pages"]:
                raise _out_of_step("Not all pages are here.", found["pages"])
            statement = body.model_dump(exclude={"upload_id", "pages"})
            changes = {"state": "finished", "statement": statement, "moved_at": self._resources.now()}
            await self._set(found, changes, session)

        await self._resources.transact(work)

    async def fail(self, round_id: str, body: Failure) -> None:
        """Take the word that the directory cannot be read."""

        async def work(session: Session) -> None:
            found = await self._mine(round_id, session)
            if found["state"] == "failed":
                return
            if found["state"] != "open":
                raise _closed()
            changes = {"state": "failed", "failure": body.model_dump(), "moved_at": self._resources.now()}
            await self._set(found, changes, session)
            await self._store.clear_pages(round_id, session)

        await self._resources.transact(work)

    async def answer(self, question_id: str, body: SentAnswer) -> None:
        """Take the answer to a question."""
        if not await self._store.answer(question_id, body.model_dump(exclude_none=False), self._resources.now()):
            raise not_found()

    async def _mine(self, round_id: str, session: Session) -> Document:
        found = await self._store.get(round_id, self._agent.id, session)
        if found is None:
            raise not_found()
        return found

    async def _open(self, round_id: str, upload_id: str, session: Session) -> Document:
        found = await self._mine(round_id, session)
        if found["state"] != "open" or found["wanted_until"] < self._resources.now() - ABANDONED:
            raise _closed()
        if found["upload_id"] != upload_id:
            raise conflict("wrong-state", "The round was begun anew with another upload.")
        return found

    async def _set(self, found: Document, changes: Mapping[str, Any], session: Session) -> None:
        if not await self._store.set(found, changes, session):
            raise conflict("wrong-state", "The round has just moved on.")


class Body:
    """A page as it came: packed, and its JSON."""

    def __init__(self, plain: bytes, packed: bytes | None) -> None:
        self.plain = plain
        self.packed = packed if packed is not None else gzip.compress(plain, compresslevel=6, mtime=0)


def _closed() -> Problem:
    return conflict("wrong-state", "The round is not open any more.")


def _out_of_step(message: str, next_page: int) -> Problem:
    return conflict("wrong-state", message, next_page=next_page)


def _round(found: Document, base: str | None, next_page: int) -> Round:
    return Round(id=found["_id"], run_id=found["run_id"], base=base, next_page=next_page)


def _question(found: Document) -> PutQuestion:
    settings = ReadSettings(**found["settings"])
    return PutQuestion(id=found["_id"], kind=found["kind"], settings=settings, query=found["query"])
