"""Answers questions that the api puts to directories: tests of settings, a look at entries (SPEC L1, E1, S12).

The code that speaks to directories, and the networks that it reaches, are here alone. Whatever goes wrong becomes an
answer, for somebody waits for it; a worker that dies leaves the question to another one.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram

from postern_common import telemetry
from postern_common.errors import Temporary
from postern_sync.questions.store import QuestionStore
from postern_sync.source import SourceFailed

Document = dict[str, Any]
Probe = Callable[[Document], Awaitable[Document]]
LOOK_SECONDS: Final = 0.3
MAX_PAUSE_SECONDS: Final = 10.0
# Past the time that an answer may take: a worker that is silent for longer is dead.
GRACE: Final = timedelta(seconds=5)

log = structlog.get_logger(__name__)
_QUESTIONS = Counter(
    "postern_sync_questions_total", "Questions to directories that were answered.", ["kind", "outcome"]
)  # kind: test | browse | filter; outcome: ok | failed | timeout | error
_SECONDS = Histogram("postern_sync_question_duration_seconds", "How long an answer took.")


class Questions:
    """The loop of one process."""

    def __init__(
        self,
        store: QuestionStore,
        probe: Probe,
        *,
        concurrency: int = 8,
        seconds: float = 20.0,
        look: float = LOOK_SECONDS,
    ) -> None:
        self._store = store
        self._probe = probe
        self._concurrency = concurrency
        self._seconds = seconds
        self._look = look
        self._owner = f"worker-{secrets.token_hex(8)}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()

    async def run(self) -> None:
        """Answer until cancelled; look less often while the database is away."""
        pause = self._look
        while not self._draining.is_set():
            try:
                await self.take()
                pause = self._look
            except Temporary as error:
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                log.warning("questions_wait", reason=error.reason, pause_seconds=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.75, 1.25)):
                    await self._draining.wait()
        await asyncio.Event().wait()

    async def take(self) -> int:
        """Begin with the questions that wait, as many as there is room for; how many."""
        begun = 0
        lease = timedelta(seconds=self._seconds) + GRACE
        while len(self._tasks) < self._concurrency and not self._draining.is_set():
            question = await self._store.claim(self._owner, await self._store.mongo.server_time(), lease)
            if question is None:
                break
            task = asyncio.create_task(self._answer(question))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            begun += 1
        return begun

    async def drain(self) -> None:
        """Take no further questions, and finish those under way."""
        self._draining.set()
        await self.idle()

    async def idle(self) -> None:
        """Wait until no question is under way here."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _answer(self, question: Document) -> None:
        kind, began = question["kind"], time.monotonic()
        with telemetry.bind(customer_id=question["customer_id"], question_id=question["_id"], kind=kind):
            answer, outcome = await self._asked(question, began)
            try:
                outcome = await self._write(question, answer, outcome, began)
            except Temporary as error:
                log.warning("answer_not_written", reason=error.reason)
            _SECONDS.observe(time.monotonic() - began)
            _QUESTIONS.labels(kind=kind, outcome=outcome).inc()
            log.info("question_answered", outcome=outcome, seconds=round(time.monotonic() - began, 3))

    async def _write(self, question: Document, answer: Document, outcome: str, began: float) -> str:
        """Keep the answer, or why there is none: a directory may hold what cannot be stored."""
        try:
            await self._store.answer(question, self._owner, answer)
        except Temporary:
            raise
        except Exception:  # the loop's edge: somebody waits for an answer
            log.exception("answer_not_storable")
            text = "The answer cannot be shown; ask for less."
            await self._store.answer(question, self._owner, failed("internal", text, time.monotonic() - began))
            return "error"
        return outcome

    async def _asked(self, question: Document, began: float) -> tuple[Document, str]:
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._probe(question)
        except TimeoutError:
            text = f"The directory did not answer within {self._seconds:g} seconds."
            return failed("connect", text, time.monotonic() - began), "timeout"
        except SourceFailed as error:
            return failed(error.step, error.message, time.monotonic() - began), "failed"
        except Exception:  # the loop's edge: somebody waits for an answer
            log.exception("question_failed")
            text = "The test failed for a reason on our side. Try it once more later."
            return failed("internal", text, time.monotonic() - began), "error"
        return answer, "ok" if answer.get("ok", True) else "failed"


def failed(step: str, detail: str, seconds: float) -> Document:
    """The answer to a question that could not be answered, whichever it was."""
    tried = {"step": step, "ok": False, "detail": detail, "milliseconds": round(seconds * 1000)}
    return {
        "ok": False,
        "steps": [tried],
        "found": None,
        "certificate": None,
        "warnings": [],
        "entries": [],
        "truncated": False,
    }
