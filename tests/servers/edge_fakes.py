"""A listener on loopback with a spool and a directory of a few lines, and a client that speaks SMTP by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from postern_common.clock import Clock
from postern_common.documents import DomainState, RecipientMode
from postern_edge.budget import ByteBudget
from postern_edge.inbound.connect import ConnectionLimits
from postern_edge.inbound.handler import InboundHandler
from postern_edge.interfaces import AcceptedMessage, SpooledIds, StoredBody
from postern_edge.limits import Limits
from postern_edge.listener import Listener
from postern_edge.port import Port
from postern_edge.rules.paths import Mailbox
from postern_edge.rules.recipients import DomainFacts, RecipientAnswer, decide
from postern_edge.tls import CertificateWatch

VERIFIED = DomainState.VERIFIED


class FakeDirectory:
    """`example.test` takes all, `strict.test` knows ann alone, `small.test` takes 2,000 bytes, `pending.test` waits."""

    def __init__(self) -> None:
        self.domains = {
            "example.test": DomainFacts(VERIFIED, "cus_1"),
            "xn--bcher-kva.test": DomainFacts(VERIFIED, "cus_1"),
            "strict.test": DomainFacts(VERIFIED, "cus_2", RecipientMode.KNOWN_ONLY),
            "small.test": DomainFacts(VERIFIED, "cus_3", max_message_bytes=2000),
            "pending.test": DomainFacts(DomainState.PENDING),
            "expired.test": DomainFacts(DomainState.EXPIRED),
        }
        self.users = {"ann@strict.test": "usr_ann"}
        self.readable = True

    def lookup(self, mailbox: Mailbox) -> RecipientAnswer:
        if mailbox.local == "broken":
            raise RuntimeError("mongodb://user:secret@db down")
        return decide(mailbox, self.domains.get(mailbox.domain), self.users.get, readable=self.readable)


@dataclass
class FakeUpload:
    """A body that is streamed."""

    chunks: list[bytes] = field(default_factory=list)
    aborted: bool = False
    delay: float = 0.0

    async def write(self, chunk: bytes) -> None:
        await asyncio.sleep(self.delay)
        self.chunks.append(chunk)

    async def close(self) -> StoredBody:
        return StoredBody("body", sum(map(len, self.chunks)))

    async def abort(self) -> None:
        self.aborted = True


class FakeSpool:
    """Keeps messages in a list; `failure` is raised, `gate` is waited for."""

    def __init__(self) -> None:
        self.messages: list[AcceptedMessage] = []
        self.uploads: list[FakeUpload] = []
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.upload_delay = 0.0

    async def accept(self, message: AcceptedMessage) -> SpooledIds:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.messages.append(message)
        return SpooledIds((f"msg_{len(self.messages)}",))

    def open_body(self, queue_id: str) -> FakeUpload:
        self.uploads.append(FakeUpload(delay=self.upload_delay))
        return self.uploads[-1]


class Client:
    """Writes octets and reads replies, nothing else."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes, *, step: int = 0) -> None:
        """Write, in pieces of `step` octets where it is given."""
        for start in range(0, len(data), step or max(len(data), 1)):
            self.writer.write(data[start : start + (step or len(data))])
            await self.writer.drain()
            if step:
                await asyncio.sleep(0)

    async def reply(self) -> str:
        """The next reply, its lines joined; "" when the server closed."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 10)).decode()
            lines.append(line.rstrip("\r\n"))
            if not line or line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, command: str) -> str:
        """Send a command and read its reply."""
        await self.send(command.encode() + b"\r\n")
        return await self.reply()

    async def ready_for_data(self, recipient: str = "ann@example.test", parameters: str = "") -> None:
        """Walk to the 354."""
        assert (await self.say("EHLO client.test")).startswith("250")
        assert (await self.say(f"MAIL FROM:<sender@far.test>{parameters}")).startswith("250 2.1.0")
        assert (await self.say(f"RCPT TO:<{recipient}>")).startswith("250 2.1.5")
        assert (await self.say("DATA")).startswith("354")

    async def is_closed(self) -> bool:
        """Whether the server has closed its side, and says nothing more."""
        return await asyncio.wait_for(self.reader.read(), 10) == b""

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class Edge:
    """The listener with what stands behind it."""

    def __init__(self, port: Port, listener: Listener, directory: FakeDirectory, spool: FakeSpool) -> None:
        self.port = port
        self.listener = listener
        self.directory = directory
        self.spool = spool
        self.clients: list[Client] = []

    async def connect(self, *, greeted: bool = True) -> Client:
        """A client, past the banner."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.listener.number))
        self.clients.append(client)
        if greeted:
            assert (await client.reply()).startswith("220 ")
        return client

    async def wait_for_sessions(self, number: int = 0) -> None:
        """Until so many connections are left."""
        for _ in range(1000):
            if len(self.port.sessions) <= number:
                return
            await asyncio.sleep(0.01)
        raise TimeoutError


@asynccontextmanager
async def edge_listener(
    limits: Limits | None = None,
    connections: ConnectionLimits | None = None,
    *,
    budget: int = 64 * 1024 * 1024,
    certificate: tuple[Path, Path] | None = None,
    balancers: str = "",
) -> AsyncIterator[Edge]:
    """A listener on a free port, closed at the end."""
    directory, spool = FakeDirectory(), FakeSpool()
    port = Port(
        InboundHandler(directory, spool, postmaster_domain="example.test"),
        hostname="mx.postern.test",
        clock=Clock(),
        limits=limits or Limits(),
        connections=connections or ConnectionLimits(),
        budget=ByteBudget(budget),
        tls=CertificateWatch(*certificate) if certificate else None,
        balancers=[ip_network(balancers)] if balancers else [],
    )
    listener = Listener(port, sweep_seconds=0.02)
    await listener.start("127.0.0.1", 0)
    running = asyncio.create_task(listener.run())
    edge = Edge(port, listener, directory, spool)
    try:
        yield edge
    finally:
        running.cancel()
        for client in edge.clients:
            await client.close()
        await listener.drain(0.2)
