"""One reading of the directory, from its begin to the statement that all of it was sent.

The connection may break at any point, and the process may end: the pages are prepared once and kept, so that sending
goes on with the page that is missing. Where nothing is prepared, the directory is read again.
"""

import asyncio
import random
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

import structlog

from postern_sync.agent.adapters.server import Refused, Revoked, Server, Unreachable
from postern_sync.agent.state import State, is_ruined
from postern_sync.source import Reading, SourceFailed

Json = dict[str, Any]
T = TypeVar("T")
LONGEST_PAUSE: Final = 300.0
ATTEMPTS: Final = 40
# RFC 9110 15.5.5, 15.5.10
_NOT_FOUND: Final = 404
_MOVED_ON: Final = frozenset({_NOT_FOUND, 409})
_UNUSABLE: Final = "The agent cannot use its own state: {}."
_BROKEN: Final = "The agent has failed, with {}; its log tells more."
STEPS: Final = frozenset({"name", "connect", "tls", "bind", "base_dn", "filter", "permission", "agent"})

log = structlog.get_logger(__name__)


class Reader(Protocol):
    """The directory."""

    async def read(self, settings: Json, reading: Reading) -> Json:
        """Read it whole; how that went."""


class Backoff:
    """Pauses that grow, with jitter; what the server says comes first."""

    def __init__(self, first: float = 1.0, longest: float = LONGEST_PAUSE) -> None:
        self._first = self._next = first
        self._longest = longest

    def reset(self) -> None:
        """It worked."""
        self._next = self._first

    async def wait(self, retry_after: float | None = None) -> None:
        """Pause."""
        pause = max(self._next * random.uniform(0.75, 1.25), (retry_after or 0.0) * random.uniform(1, 1.25))
        self._next = min(self._longest, self._next * 2)
        await asyncio.sleep(pause)


class Rounds:
    """Carries out readings."""

    def __init__(self, server: Server, state: State, directory: Reader, pause: float = 1.0) -> None:
        self._server = server
        self._state = state
        self._directory = directory
        self._pause = pause
        self._begun: str | None = None
        self._finishing: str | None = None

    async def carry_out(self, run_id: str, settings: Json) -> bool:
        """Read and send; whether it came to its end. Raises `Revoked`."""
        try:
            return await self._carry_out(run_id, settings)
        except Revoked:
            raise
        except sqlite3.Error as error:
            log.error("state_unusable", reason=str(error))
            await self._tell(_UNUSABLE.format(error))
            if is_ruined(error):
                await whole(self._state.begin_anew)
            await self._pause_long()
            return False
        except Exception as error:
            await self._tell(_BROKEN.format(type(error).__name__))
            raise

    async def _carry_out(self, run_id: str, settings: Json) -> bool:
        backoff = Backoff(self._pause)
        for _ in range(ATTEMPTS):
            try:
                return await self._attempt(run_id, settings, backoff)
            except Unreachable as error:
                log.warning("server_unreachable", reason=error.reason)
                await backoff.wait(error.retry_after)
            except Refused as error:
                log.warning("round_refused", status=error.status, reason=error.detail)
                await self._give_up(error)
                return False
        return False

    async def _give_up(self, error: Refused) -> None:
        """Tell why, unless the round is over, another agent's or begun anew: the server asks again then."""
        if error.status not in _MOVED_ON:
            await self._tell(f"The server refused what was sent: {error.detail}")
        elif self._finishing is not None and error.status == _NOT_FOUND:
            # It may have taken the round, and the answer was lost: it may go on from this one as from the one before.
            await whole(lambda: self._state.sent(str(self._finishing)))
        self._begun = self._finishing = None
        await self._pause_long()

    async def _pause_long(self) -> None:
        await asyncio.sleep(self._pause * random.uniform(3, 6))

    async def _tell(self, message: str) -> None:
        """Have the run end with this reason."""
        begun, self._begun = self._begun, None
        if begun is not None:
            with suppress(Unreachable, Refused):
                await self._server.fail(begun, "agent", message[:300])

    async def _attempt(self, run_id: str, settings: Json, backoff: Backoff) -> bool:
        prepared = self._state.prepared(run_id)
        upload_id = prepared["statement"]["upload_id"] if prepared is not None else secrets.token_hex(16)
        known = self._known(prepared)
        begun = await self._server.begin(run_id, upload_id, known)
        self._begun = begun["id"]
        if prepared is None or (prepared["round_id"], prepared["base"]) != (begun["id"], begun["base"]):
            if prepared is not None:
                # Another round than the one that was prepared: what was sent of that is of no use under its name.
                self._state.note("prepared", None)
                return await self._attempt(run_id, settings, backoff)
            prepared = await self._prepare(run_id, upload_id, begun, settings)
            if prepared is None:
                return True
        statement = prepared["statement"]
        for number in range(begun["next_page"], statement["pages"]):
            await self._server.put_page(begun["id"], number, upload_id, self._state.page(number))
            backoff.reset()
        self._finishing = begun["id"]
        await self._server.finish(begun["id"], statement)
        await whole(lambda: self._state.sent(begun["id"]))
        self._begun = self._finishing = None
        log.info("round_sent", round_id=begun["id"], pages=statement["pages"], records=statement["records"])
        return True

    def _known(self, prepared: Json | None) -> list[str]:
        """What the server may go on from; a prepared round stands on its base alone."""
        if prepared is None:
            return self._state.known()
        return [prepared["base"]] if prepared["base"] is not None else []

    async def _prepare(self, run_id: str, upload_id: str, begun: Json, settings: Json) -> Json | None:
        """Read the directory and work out the pages; None where it cannot be read, which is told."""
        self._finishing = None
        await whole(lambda: self._state.settle(begun["base"]))
        self._state.note("settings", settings)
        try:
            report = await self._directory.read(settings, self._state)
        except SourceFailed as error:
            log.warning("directory_unreadable", step=error.step, reason=error.message)
            step = error.step if error.step in STEPS else "agent"
            await self._server.fail(begun["id"], step, error.message[:300])
            return None
        return await whole(lambda: self._state.prepare(run_id, upload_id, begun, report))


async def whole(work: Callable[[], T]) -> T:
    """Do it beside the loop, and to its end: being cancelled waits until the file is let go of."""
    running = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def retried(work: Callable[[], Awaitable[T]], attempts: int = 5) -> T | None:
    """Do something that may meet a bad moment; None where it does not work, which is told in the log."""
    backoff = Backoff()
    for _ in range(attempts):
        try:
            return await work()
        except Unreachable as error:
            log.warning("server_unreachable", reason=error.reason)
            await backoff.wait(error.retry_after)
        except Refused as error:
            log.warning("refused", status=error.status, reason=error.detail)
            return None
    return None
