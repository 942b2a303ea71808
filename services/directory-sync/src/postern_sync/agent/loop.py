"""The agent's loop: asks for work, does it, renews its token; all connections go outward."""

import asyncio
import math
import random
import time
from collections import deque
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
SOON_SECONDS: Final = 3.0

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
        self._renew_after = -math.inf
        self._rounds = Rounds(server, state, directory)
        self._round: tuple[str, asyncio.Task[bool]] | None = None
        self._questions: dict[str, asyncio.Task[None]] = {}
        self._unanswered: deque[str] = deque(maxlen=MAX_QUESTIONS)

    async def run(self) -> None:
        """Work until cancelled. Raises `Revoked` where the agent is no longer wanted."""
        backoff, loop = Backoff(), asyncio.get_running_loop()
        try:
            while True:
                try:
                    await self._renew_when_due()
                    asked = loop.time()
                    work = await self._server.work(self._busy())
                    backoff.reset()
                except Unreachable as error:
                    log.warning("server_unreachable", reason=error.reason)
                    await backoff.wait(error.retry_after)
                except Refused as error:
                    log.error("work_refused", status=error.status, reason=error.detail)
                    await backoff.wait(60.0)
                else:
                    is_idle = not self._begin(work) and loop.time() - asked < SOON_SECONDS
                    self._check_round()
                    if is_idle:  # nothing to begin, and no waiting there: the server has no room, or work is under way
                        await asyncio.sleep(random.uniform(3, 6))
        finally:
            await self._stop()

    async def once(self) -> bool:
        """Do what is asked for now, and no more; whether there was a reading."""
        work = await self._server.work([], wait=0)
        found = work["round"]
        return found is not None and await self._rounds.carry_out(found["run_id"], _timed(found["settings"], work))

    def _busy(self) -> list[str]:
        running = [] if self._round is None or self._round[1].done() else [self._round[0]]
        return [*running, *self._questions, *self._unanswered]

    def _begin(self, work: Json) -> bool:
        """Begin what there is to do; whether anything was begun. One reading at a time, and a few questions."""
        found, question, has_begun = work["round"], work["question"], False
        if found is not None and self._round is not None and found["run_id"] != self._round[0]:
            self._round[1].cancel()  # that run is over, and nobody waits for what is read for it
        if found is not None and (self._round is None or self._round[1].done()):
            self._check_round()
            task = asyncio.create_task(self._rounds.carry_out(found["run_id"], _timed(found["settings"], work)))
            self._round, has_begun = (found["run_id"], task), True
        if question is not None and len(self._questions) < MAX_QUESTIONS:
            task_of = asyncio.create_task(self._answer(question))
            self._questions[question["id"]] = task_of
            task_of.add_done_callback(lambda _task: self._questions.pop(question["id"], None))
            has_begun = True
        return has_begun

    def _check_round(self) -> None:
        """Take note of how a reading ended; a token that is revoked, or a bug, ends the agent."""
        if self._round is not None and self._round[1].done():
            task, self._round = self._round[1], None
            if not task.cancelled():
                task.result()

    async def _answer(self, question: Json) -> None:
        began = time.monotonic()
        try:
            answer = await self._directory.answer(question["kind"], question["settings"], question["query"])
        except SourceFailed as error:
            spent = round((time.monotonic() - began) * 1000)
            step = {"step": error.step, "ok": False, "detail": error.message, "milliseconds": spent}
            answer = {"ok": False, "steps": [step]}

        async def send() -> bool:
            await self._server.answer(question["id"], answer)
            return True

        try:
            if not await retried(send, attempts=3):
                self._unanswered.append(question["id"])  # so that it is not asked at once again
        except Revoked:
            return  # the next call says so again

    async def _renew_when_due(self) -> None:
        """Get a new token when the present one is some days old. Until it is used, that one is good."""
        now, renewed = time.time(), self._token_file.stat().st_mtime
        # One from the future was written while the clock was wrong.
        if -HOUR_SECONDS < now - renewed < self._rotate_seconds or time.monotonic() < self._renew_after:
            return
        try:
            found = await self._server.renew()
        except Refused as error:
            log.warning("token_not_renewed", status=error.status, reason=error.detail)
            self._renew_after = time.monotonic() + HOUR_SECONDS
            return
        try:
            write_secret(self._token_file, found["token"])
        except OSError as error:  # the present one stays good as long as the new one is not used
            log.error("token_not_kept", reason=error.strerror)
            self._renew_after = time.monotonic() + HOUR_SECONDS
            return
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


def _timed(settings: Json, work: Json) -> Json:
    """Settings with the server's time, by which accounts expire: the clock here may be wrong."""
    return settings | {"now": work["now"]}
