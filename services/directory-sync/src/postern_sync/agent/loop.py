"""The agent's loop: asks for work, does it, renews its token; all connections go outward."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from postern_sync.agent.adapters.server import Refused, Revoked, Server, Unreachable
from postern_sync.agent.config import write_secret
from postern_sync.agent.rounds import Backoff, Reader, Rounds, retried
from postern_sync.agent.state import State
from postern_sync.source import SourceFailed

Json = dict[str, Any]
MAX_QUESTIONS: Final = 4
DAY_SECONDS: Final = 86_400
HOUR_SECONDS: Final = 3_600

log = structlog.get_logger(__name__)


class Asked(Reader, Protocol):
    """The directory, which also answers questions."""

    async def answer(self, kind: str, settings: Json, query: Json) -> Json:
        """Answer a question."""


class Agent:
    """One agent. `token_file` is where its token stands."""

    def __init__(
        self, server: Server, state: State, directory: Asked, token_file: Path, *, rotate_days: int = 7
    ) -> None:
        self._server = server
        self._directory = directory
        self._token_file = token_file
        self._rotate_seconds = rotate_days * DAY_SECONDS
        self._renew_after = 0.0
        self._rounds = Rounds(server, state, directory)
        self._round: tuple[str, asyncio.Task[bool]] | None = None
        self._questions: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled. Raises `Revoked` where the agent is no longer wanted."""
        backoff = Backoff()
        try:
            while True:
                try:
                    await self._renew_when_due()
                    work = await self._server.work(self._busy())
                    backoff.reset()
                except Unreachable as error:
                    log.warning("server_unreachable", reason=error.reason)
                    await backoff.wait(error.retry_after)
                except Refused as error:
                    log.error("work_refused", status=error.status, reason=error.detail)
                    await backoff.wait(60.0)
                else:
                    self._begin(work)
                    self._check_round()
        finally:
            await self._stop()

    async def once(self) -> bool:
        """Do what is asked for now, and no more; whether there was a reading."""
        work = await self._server.work([], wait=0)
        found = work["round"]
        return found is not None and await self._rounds.carry_out(found["run_id"], found["settings"])

    def _busy(self) -> list[str]:
        running = [] if self._round is None or self._round[1].done() else [self._round[0]]
        return [*running, *self._questions]

    def _begin(self, work: Json) -> None:
        found, question = work["round"], work["question"]
        if found is not None and (self._round is None or self._round[1].done()):
            self._check_round()
            task = asyncio.create_task(self._rounds.carry_out(found["run_id"], found["settings"]))
            self._round = found["run_id"], task
        if question is not None and len(self._questions) < MAX_QUESTIONS:
            task_of = asyncio.create_task(self._answer(question))
            self._questions[question["id"]] = task_of
            task_of.add_done_callback(lambda _task: self._questions.pop(question["id"], None))

    def _check_round(self) -> None:
        """Take note of how a reading ended; a token that is revoked, or a bug, ends the agent."""
        if self._round is not None and self._round[1].done():
            task, self._round = self._round[1], None
            task.result()

    async def _answer(self, question: Json) -> None:
        began = time.monotonic()
        try:
            answer = await self._directory.answer(question["kind"], question["settings"], question["query"])
        except SourceFailed as error:
            spent = round((time.monotonic() - began) * 1000)
            step = {"step": error.step, "ok": False, "detail": error.message, "milliseconds": spent}
            answer = {"ok": False, "steps": [step]}
        try:
            await retried(lambda: self._server.answer(question["id"], answer), attempts=3)
        except Revoked:
            return  # the next call says so again

    async def _renew_when_due(self) -> None:
        """Get a new token when the present one is some days old. Until it is used, that one is good."""
        now, renewed = time.time(), self._token_file.stat().st_mtime
        if now - renewed < self._rotate_seconds or now < self._renew_after:
            return
        try:
            found = await self._server.renew()
        except Refused as error:
            log.warning("token_not_renewed", status=error.status, reason=error.detail)
            self._renew_after = now + HOUR_SECONDS
            return
        write_secret(self._token_file, found["token"])
        self._server.token = found["token"]
        log.info("token_renewed", expires_at=found["expires_at"])

    async def _stop(self) -> None:
        """Leave everything as it is: what was prepared is sent after the next start."""
        tasks: list[asyncio.Task[Any]] = list(self._questions.values())
        if self._round is not None:
            tasks.append(self._round[1])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
