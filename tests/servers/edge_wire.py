"""A session of the inbound port without a socket: a script's octets go in, and what is said comes out, step by step.

The session is the edge's own, on a transport and a clock of a few lines, so that a million scripts take minutes. What
must wait (the spool, a slow look-up, a TLS handshake) is waited for after each step, or, in a hasty script, only when
all has been sent.
"""

import asyncio
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any, Final, cast

from postern_common.clock import Clock
from postern_common.errors import Temporary
from postern_edge.budget import ByteBudget
from postern_edge.inbound.connect import ConnectionLimits
from postern_edge.inbound.handler import InboundHandler
from postern_edge.interfaces import AcceptedMessage, SpoolFull, StoredBody
from postern_edge.limits import Limits
from postern_edge.port import Port
from postern_edge.protocol import EdgeSMTP
from postern_edge.replies import Reply
from postern_edge.tls import CertificateWatch
from tests.servers.edge_fakes import FakeDirectory, FakeSpool, FakeUpload

HOSTNAME: Final = "mx.postern.test"
BALANCER: Final = ("192.0.2.1", 40_000)
CLIENT: Final = ("198.51.100.7", 50_000)
# Small enough that scripts of some lines reach each of them.
LIMITS: Final = replace(
    Limits(), max_message_bytes=3000, line_bytes=120, recipients=4, messages=3, bad_commands=3, errors=10,
    idle_commands=12, commands=1000,
)  # fmt: skip
FAILURES: Final[dict[str, Exception]] = {
    "temporary": Temporary("store is down"),
    "full": SpoolFull("no room"),
    "bug": RuntimeError("mongodb://user:secret@db"),
}


@dataclass(frozen=True, slots=True)
class Header:
    """The PROXY header that a script begins with; `good` is None where nobody can say without reading it."""

    octets: bytes
    good: bool | None
    client: str = BALANCER[0]


@dataclass(frozen=True, slots=True)
class Script:
    """What a client does: octets, or `pause` and `resume` (it does not read our replies), `late`, `drain`, `eof`."""

    events: tuple[bytes | str, ...]
    hasty: bool = False
    failure: str = ""  # of the spool: one of FAILURES, or "upload"
    header: Header | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """An event, what was said to it, and whether the connection is being closed by us or gone after it."""

    event: bytes | str
    out: bytes
    closing: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in the spool with its octets, wherever they were kept."""

    message: AcceptedMessage
    octets: bytes


class WireTransport:
    """What asyncio would give the session; it refuses what a real one does."""

    def __init__(self, peer: tuple[str, int], tls: Any = None) -> None:
        self._extra = {"peername": peer, "ssl_object": tls}
        self._tls = tls
        self.written = bytearray()
        self.is_paused = self.closed = self.ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._extra.get(name, default)

    def write(self, data: bytes) -> None:
        assert not self.closed, f"written after the end: {data!r}"
        assert not self.ended, f"written after the last word: {data!r}"
        self.written += data

    def can_write_eof(self) -> bool:
        return self._tls is None

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        assert not self.closed, "reading after the end"
        self.is_paused = False


class _Cipher:
    """What a session asks of a TLS connection."""

    def version(self) -> str:
        return "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)


class _Certificate:
    """A port's certificate that no handshake looks at."""

    context: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class WireLoop:
    """The running loop with a clock that is set, and a count of what is under way."""

    def __init__(self, transport: WireTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self.transport = transport
        self.now = 1000.0
        self.tasks: set[asyncio.Task[Any]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self.now

    def create_task(self, work: Any) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def start_tls(self, transport: WireTransport, session: Any, context: Any, **_: Any) -> WireTransport:
        """A handshake that succeeds: nothing that was said in clear may have been left for it."""
        assert transport.is_paused, "octets in clear could still come in"
        transport.resume_reading()
        secured = WireTransport(transport.get_extra_info("peername"), _Cipher())
        secured.written = transport.written
        self.transport = secured
        return secured


class WireHandler(InboundHandler):
    """The edge's handler; recipients named `later…` are answered later."""

    def handle_RCPT(self, server: Any, session: Any, envelope: Any, argument: str) -> Reply | Awaitable[Reply]:
        reply = cast(Reply, super().handle_RCPT(server, session, envelope, argument))
        return _later(reply) if "later" in argument else reply


async def _later(reply: Reply) -> Reply:
    await asyncio.sleep(0)
    return reply


class FailingUpload:
    """A store that takes no body."""

    async def write(self, chunk: bytes) -> None:
        raise Temporary("store is down")

    async def close(self) -> StoredBody:
        raise AssertionError("closed without its octets")

    async def abort(self) -> None:
        """There is nothing."""


class WireUpload(FakeUpload):
    """A store whose later pieces would overtake the first, if they were not waited for."""

    _turns = 6

    async def write(self, chunk: bytes) -> None:
        turns, self._turns = self._turns, max(self._turns - 3, 0)
        for _ in range(turns):
            await asyncio.sleep(0)
        self.chunks.append(chunk)


class WireSpool(FakeSpool):
    """A spool that fails as the script says."""

    def __init__(self, failure: str) -> None:
        super().__init__()
        self.failure = FAILURES.get(failure)
        self._takes_bodies = failure != "upload"

    def open_body(self, queue_id: str) -> Any:
        if not self._takes_bodies:
            return FailingUpload()
        self.uploads.append(WireUpload())
        return self.uploads[-1]


class Wire:
    """One script being played."""

    def __init__(self, script: Script, limits: Limits = LIMITS) -> None:
        self._script = script
        self._transport = WireTransport(BALANCER if script.header else CLIENT)
        self._loop = WireLoop(self._transport)
        self.spool = WireSpool(script.failure)
        self.port = Port(
            WireHandler(FakeDirectory(), self.spool, postmaster_domain="example.test"),
            hostname=HOSTNAME,
            clock=Clock(),
            limits=limits,
            connections=ConnectionLimits(),
            budget=ByteBudget(1 << 20),
            tls=cast(CertificateWatch, _Certificate()),
            balancers=[ip_network(f"{BALANCER[0]}/32")],
        )
        self._session = EdgeSMTP(self.port, cast(asyncio.AbstractEventLoop, self._loop))
        self._said = 0
        self._lost = False

    async def play(self) -> list[Step]:
        """Every event with what was said to it; at the end the connection is gone."""
        self._session.connection_made(cast(asyncio.BaseTransport, self._transport))
        steps = [self._step("connect")]
        for event in self._script.events:
            if self._lost or self._loop.transport.closed:
                break
            name = self._act(event)
            if not self._script.hasty:
                await self._settle()
            steps.append(self._step(name))
        if self._script.hasty and not self._lost:
            await self._settle()
            steps.append(self._step("settled"))
        if not self._lost:
            self._session.connection_lost(None)
        await self._end()
        return steps

    def stored(self) -> list[Stored]:
        """What the spool holds, in the order of its coming."""
        uploads = iter([upload for upload in self.spool.uploads if not upload.aborted])
        return [
            Stored(one, one.body if one.stored_body is None else b"".join(next(uploads).chunks))
            for one in self.spool.messages
        ]

    def _act(self, event: bytes | str) -> bytes | str:
        session, transport = self._session, self._loop.transport
        if isinstance(event, bytes):
            session.data_received(event)
        elif event == "pause":
            session.pause_writing()
        elif event == "resume":
            session.resume_writing()
        elif event == "drain":
            self.port.draining = True
            session.drain()
        elif event == "late":
            self._loop.now += 10_000
            if session.deadline <= self._loop.now:
                session.expire()
        elif event == "eof" and not session.eof_received():
            transport.close()
            self._lost = True
            session.connection_lost(None)
            return "eof-lost"
        return event

    async def _settle(self) -> None:
        """Until the session waits for nothing; a body may still be on its way to the store."""
        await asyncio.sleep(0)
        while self._loop.tasks:  # noqa: ASYNC110 - an event would cost more than this turn of the loop
            await asyncio.sleep(0)

    async def _end(self) -> None:
        """Until nothing at all is under way."""
        await self._settle()
        while self.spool.uploads and len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)

    def _step(self, event: bytes | str) -> Step:
        transport = self._loop.transport
        out = bytes(transport.written[self._said :])
        self._said = len(transport.written)
        return Step(event, out, transport.closed or transport.ended)
