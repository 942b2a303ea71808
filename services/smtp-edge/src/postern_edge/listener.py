"""Opens a port, keeps its deadlines, its certificate and its counts, and empties it when the service stops.

Time limits cost no timer for each connection: one sweep looks at all deadlines several times a second. `drain`
refuses new connections at once, lets messages under way end, says 421 to everybody else, and cuts off what is left
when its time is over.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from postern_edge import metrics
from postern_edge.port import Port
from postern_edge.protocol import EdgeSMTP

log = structlog.get_logger(__name__)

SWEEP_SECONDS: Final = 0.25
CERTIFICATE_SECONDS: Final = 10.0
BACKLOG: Final = 1024
_DRAIN_STEP: Final = 0.05


class Listener:
    """A listening port; `start`, then `run` beside it, and `drain` at the end."""

    def __init__(self, port: Port, *, sweep_seconds: float = SWEEP_SECONDS) -> None:
        self._port = port
        self._sweep_seconds = sweep_seconds
        self._server: asyncio.Server | None = None

    async def start(self, host: str, number: int, *, reuse_port: bool = False) -> None:
        """Listen; with `reuse_port` several processes share the number and the kernel spreads the connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: EdgeSMTP(self._port, loop), host, number, backlog=BACKLOG, reuse_port=reuse_port or None
        )
        log.info("listening", host=host, port=self.number)

    @property
    def number(self) -> int:
        """The port's number, where it was left to the system to choose."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the port is not open")
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    @property
    def is_open(self) -> bool:
        """Whether new connections are taken."""
        return self._server is not None and self._server.is_serving() and not self._port.draining

    async def run(self) -> None:
        """Keep deadlines and the certificate for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            if self._port.tls is not None:
                tasks.create_task(self._port.tls.run(CERTIFICATE_SECONDS))

    async def drain(self, seconds: float) -> None:
        """Take nothing new, let messages under way end, and return when nobody is left or the time is over."""
        self._port.draining = True
        if self._server is not None:
            self._server.close()
        log.info("draining", sessions=len(self._port.sessions))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for session in list(self._port.sessions):
            _attempt(session, session.drain)
        while self._port.sessions and loop.time() < deadline:
            self._expire()
            await asyncio.sleep(_DRAIN_STEP)
        for session in list(self._port.sessions):
            session.transport.abort()
        log.info("drained", cut_off=len(self._port.sessions))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_seconds)
            self._expire()
            metrics.SESSIONS.set(self._port.taken)
            metrics.HELD.set(self._port.budget.used)
            metrics.publish()

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for session in list(self._port.sessions):
            if session.deadline <= now:
                _attempt(session, session.expire)


def _attempt(session: EdgeSMTP, end: Callable[[], None]) -> None:
    """End a session; one that cannot be ended in peace is cut off, and hinders no other."""
    try:
        end()
    except Exception as error:
        log.error("session_not_closed", exc_info=error)
        session.transport.abort()
