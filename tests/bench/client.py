"""An SMTP client for load that `smtp-source` cannot make: it pipelines (RFC 2920) and knows when each reply came."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Self, cast

SENDER: Final = "bench@sender.test"
REPLY_SECONDS: Final = 600.0
_LINE: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/==\r\n"


class Refused(Exception):
    """The server said something else than what carries on; the text is its reply."""


def content(octets: int) -> bytes:
    """A message of about that size, ready for DATA, without the dot at its end."""
    head = b"From: <bench@sender.test>\r\nSubject: load\r\nMessage-ID: <load@sender.test>\r\n\r\n"
    return head + _LINE * max(1, (octets - len(head)) // len(_LINE))


class Client(asyncio.Protocol):
    """One connection. `open` gives one that has said EHLO; each command's reply is a future of (text, when)."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: deque[asyncio.Future[tuple[str, float]]] = deque()
        self._writable = asyncio.Event()
        self._writable.set()
        self._greeting = self._expect()

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to that port of this machine, and take the greeting and EHLO's reply."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, "127.0.0.1", port)
        await _ask(client._greeting)
        client._write(b"EHLO load.test\r\n")
        await _ask(client._expect())
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep little unsent, so that a server that does not read is felt at once."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own has no such base class
        self._transport.set_write_buffer_limits(high=256 * 1024)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for what will not come."""
        self._writable.set()
        while self._waiting:
            reply = self._waiting.popleft()
            if not reply.done():
                reply.set_exception(Refused("the connection was lost"))
                reply.exception()  # looked at, whoever else does

    @property
    def is_closed(self) -> bool:
        """Whether the server has ended it, or we have."""
        return self._transport is None or self._transport.is_closing()

    def pause_writing(self) -> None:
        """The server reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Hand each whole reply (RFC 5321 4.2.1) to the command that it answers."""
        now = time.perf_counter()
        *lines, self._received = (self._received + data).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-" and self._waiting:
                reply = self._waiting.popleft()
                if not reply.done():
                    reply.set_result((line.decode("utf-8", "replace"), now))

    def _expect(self) -> asyncio.Future[tuple[str, float]]:
        reply: asyncio.Future[tuple[str, float]] = asyncio.get_running_loop().create_future()
        if self._transport is not None and self._transport.is_closing():
            reply.set_exception(Refused("the connection is closed"))
        else:
            self._waiting.append(reply)
        return reply

    def _write(self, octets: bytes) -> None:
        assert self._transport is not None
        self._transport.write(octets)

    async def ask(self, command: str) -> str:
        """Send one command; its reply, whatever it is."""
        self._write(command.encode() + b"\r\n")
        async with asyncio.timeout(REPLY_SECONDS):
            return (await self._expect())[0]

    async def send(self, recipient: str, pieces: Sequence[bytes]) -> float:
        """Send a message, whose content comes in pieces; seconds from its end to the 250. Raises `Refused`."""
        self._write(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
        replies = [self._expect() for _ in range(3)]
        for reply in replies:
            await _ask(reply)
        for piece in pieces:
            self._write(piece)
            await self._writable.wait()
        self._write(b".\r\n")
        ended = time.perf_counter()
        return await _ask(self._expect()) - ended

    async def close(self) -> None:
        """Say QUIT and wait for the reply to it, but for no other trouble."""
        try:
            await self.ask("QUIT")
        except (Refused, TimeoutError):
            pass
        finally:
            if self._transport is not None:
                self._transport.abort()


async def _ask(reply: asyncio.Future[tuple[str, float]]) -> float:
    """Wait for a reply that carries on; when it came."""
    async with asyncio.timeout(REPLY_SECONDS):
        text, at = await reply
    if text[:1] not in {"2", "3"}:
        raise Refused(text)
    return at
