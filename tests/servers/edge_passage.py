"""The way of a message through the edge without a server: in by a session, out by the delivery's own code, and the
notification that would be built of it.

Only the sockets and the store are stood in for. What came in and what went out are given as octets.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from postern_edge.adapters.smtp import Connection, Timeouts
from postern_edge.bodies.store import BodyStore
from postern_edge.limits import Limits
from postern_edge.messages import Entry, Lease, Terms, split
from postern_edge.outbound.notices import Notices
from postern_edge.outbound.parcels import addressee, content_head, parcel_of
from postern_edge.outbound.transaction import Exchange, exchange
from postern_edge.rules.classify import Answer, Stage
from postern_edge.rules.conclusion import Told
from postern_edge.rules.dsn import Action
from tests.servers.edge_wire import Script, Stored, Wire

HOSTNAME: Final = "mx.postern.test"
NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TERMS: Final = Terms(NOW, Lease(None, None), timedelta(days=5))
ALL: Final = frozenset({"8bitmime", "smtputf8", "size", "dsn", "pipelining"})
REFUSED: Final = Answer(Stage.END, 554, "5.6.0 not \r\n this <one>")


class NextHop:
    """A server as the edge's connection has it after EHLO, library and transport in one: it takes everything, and notes
    commands and octets.
    """

    def __init__(self, offers: frozenset[str]) -> None:
        self._offers = offers
        self.esmtp_extensions = {"size": "0"} if "size" in offers else {}
        self.commands: list[bytes] = []
        self.octets = bytearray()
        self.transport = self
        self._in_message = False
        self._protocol = asyncio.Protocol()

    def supports_extension(self, name: str) -> bool:
        return name in self._offers

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        if self._in_message:
            self.octets += data
            if (b"\r\n" + self.octets).endswith(b"\r\n.\r\n"):
                self._in_message = False
                self._protocol.data_received(b"250 2.0.0 taken\r\n")
            return
        for line in data.splitlines():
            self.commands.append(line)
            self._in_message = line == b"DATA"
            self._protocol.data_received(b"354 Go on\r\n" if self._in_message else b"250 OK\r\n")

    def close(self) -> None:
        """Nothing is open."""


class Bodies:
    """A store that holds the one large body."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    async def head(self, _message: Mapping[str, Any]) -> bytes:
        return self._octets[: 255 * 1024]

    async def chunks(self, message_id: str) -> AsyncIterator[bytes]:
        for start in range(0, len(self._octets), 255 * 1024):
            yield self._octets[start : start + 255 * 1024]


@dataclass(frozen=True, slots=True)
class Passage:
    """What came of a message: the final reply, and where it was taken, the stored octets, what the next hop was told
    and sent, and a notification.
    """

    reply: bytes
    stored: Stored | None = None
    exchange: Exchange | None = None
    commands: Sequence[bytes] = ()
    sent: bytes = b""
    notice: bytes = b""


async def passage(
    pieces: Sequence[bytes],
    *,
    sender: str = "a@far.test",
    recipient: str = "ann@example.test",
    parameters: str = "",
    offers: frozenset[str] = ALL,
    action: Action = Action.FAILED,
) -> Passage:
    """Send a message through the edge to a next hop that offers these extensions; `pieces` are what follows 354."""
    greeting = f"EHLO client.test\r\nMAIL FROM:<{sender}>{parameters}\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    wire = Wire(Script((greeting, *pieces)), Limits())
    steps = await wire.play()
    reply = steps[-1].out
    if not wire.spool.messages:
        return Passage(reply)
    (stored,) = wire.stored()
    (entry,) = split(stored.message, TERMS)
    bodies = cast(BodyStore, Bodies(stored.octets))
    hop = NextHop(offers)
    connection = Connection(cast(Any, hop), Timeouts(5, 5, 5, 5))
    came = await exchange(connection, await parcel_of(entry, bodies), [addressee(entry, 0)])
    return Passage(reply, stored, came, hop.commands, bytes(hop.octets), await _notice(entry, bodies, action))


async def _notice(entry: Entry, bodies: BodyStore, action: Action) -> bytes:
    async def original() -> bytes:
        return await content_head(entry, bodies)

    told = [Told(0, REFUSED, "hop.test:25")]
    notice = await Notices(HOSTNAME).build(entry.document, action, told, original, TERMS)
    assert notice.body is not None
    return notice.body


def stuffed(message: bytes) -> bytes:
    """As a client sends it (RFC 5321 4.5.2), with its end."""
    return (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def unstuffed(sent: bytes) -> bytes:
    """What a server makes of it; it must end once, at its end."""
    assert (b"\r\n" + sent).find(b"\r\n.\r\n") == len(sent) - 3, f"another end within: {sent!r}"
    lines = sent[:-3].split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
