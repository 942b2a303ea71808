"""A next hop that does what the test says: its replies by verb and by recipient, delays, silence, broken connections.

It speaks SMTP on a real socket within the test's loop. Its attributes may be changed while it runs; what it took and
what it was told stands in `messages` and `commands`.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

import pytest

DEFAULT_EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


@dataclass
class Taken:
    """A message that got 250."""

    sender: str
    recipients: list[str]
    data: bytes
    mail_line: str
    rcpt_lines: list[str]
    secure: bool
    at: float = field(default_factory=time.monotonic)


@dataclass
class FakeHop:
    """The script and the record. Verbs are upper case; `END` is the reply to the message's end, `CONNECT` the
    banner."""

    extensions: tuple[str, ...] = DEFAULT_EXTENSIONS
    replies: dict[str, str] = field(default_factory=dict)
    recipients: dict[str, str] = field(default_factory=dict)  # address -> reply to its RCPT
    delays: dict[str, float] = field(default_factory=dict)
    disconnect_at: set[str] = field(default_factory=set)  # verbs at which the connection breaks without a reply
    tls: ssl.SSLContext | None = None
    drip_seconds: float = 0.0  # between the octets of each reply
    loses_final_reply: bool = False  # takes the message, and breaks the connection instead of saying so (RFC 1047)
    stall_after_starttls: bool = False  # 220, then nothing for ever (CASES 60)
    idle_421_seconds: float | None = None  # says 421 and closes when nothing comes for so long (CASES 61)
    rset_needed_reply: str = ""  # said to MAIL after a transaction until RSET comes
    messages: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    most_open: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def mend(self) -> None:
        """From now on it does what any server does; what hangs already goes on hanging."""
        self.replies, self.recipients, self.delays, self.disconnect_at = {}, {}, {}, set()
        self.drip_seconds, self.loses_final_reply, self.stall_after_starttls = 0.0, False, False

    async def start(self, port: int = 0) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, self.host, port or self.port, limit=1 << 24)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def count(self, verb: str) -> int:
        """How often a verb was said."""
        return sum(command.upper().startswith(verb) for command in self.commands)

    @property
    def taken_recipients(self) -> list[str]:
        """The recipients of all messages."""
        return [recipient for message in self.messages for recipient in message.recipients]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await _Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()


class _Session:
    def __init__(self, hop: FakeHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hop, self.reader, self.writer = hop, reader, writer
        self.secure = False
        self.after_transaction = False
        self._begin("", "")

    def _begin(self, sender: str, line: str) -> None:
        self.sender, self.mail_line = sender, line
        self.recipients: list[str] = []
        self.rcpt_lines: list[str] = []

    async def run(self) -> None:
        if not await self._reply("CONNECT", "220 fake.test ESMTP"):
            return
        while True:
            line = await self._line()
            if line is None:
                return
            verb = line[:4].upper()
            self.hop.commands.append(line)
            if line.upper() == "STARTTLS":
                if not await self._starttls():
                    return
            elif not await self._command(verb, line):
                return

    async def _line(self) -> str | None:
        try:
            async with asyncio.timeout(self.hop.idle_421_seconds):
                line = await self.reader.readline()
        except TimeoutError:
            await self._write("421 4.4.2 idle for too long")
            return None
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n") if line else None

    async def _command(self, verb: str, line: str) -> bool:
        if verb in {"EHLO", "HELO"}:
            return await self._hello(verb)
        if verb == "MAIL":
            return await self._mail(line)
        if verb == "RCPT":
            return await self._rcpt(line)
        if verb == "DATA":
            return await self._data()
        if verb == "RSET":
            if not await self._reply(verb, "250 2.0.0 reset"):
                return False
            self.after_transaction = False
            self._begin("", "")
            return True
        if verb == "QUIT":
            await self._reply(verb, "221 2.0.0 bye")
            return False
        return await self._reply(verb, "250 2.0.0 ok")

    async def _hello(self, verb: str) -> bool:
        if verb in self.hop.replies or verb == "HELO":
            return await self._reply(verb, "250 fake.test")
        extensions = [*self.hop.extensions]
        if (self.hop.tls is not None or self.hop.stall_after_starttls) and not self.secure:
            extensions.append("STARTTLS")
        lines = ["fake.test", *extensions]
        return await self._reply(
            verb, "\r\n".join(f"250{' ' if i == len(lines) - 1 else '-'}{text}" for i, text in enumerate(lines))
        )

    async def _mail(self, line: str) -> bool:
        if self.after_transaction and self.hop.rset_needed_reply:
            await self._write(self.hop.rset_needed_reply)
            return True
        said = await self._reply("MAIL", "250 2.1.0 ok")
        self._begin(_path(line), line)
        return said

    async def _rcpt(self, line: str) -> bool:
        address = _path(line)
        reply = self.hop.recipients.get(address) or self.hop.replies.get("RCPT", "250 2.1.5 ok")
        if "RCPT" in self.hop.disconnect_at:
            return False
        await asyncio.sleep(self.hop.delays.get("RCPT", 0))
        await self._write(reply)
        if reply.startswith("2"):
            self.recipients.append(address)
            self.rcpt_lines.append(line)
        return True

    async def _data(self) -> bool:
        if not self.recipients and "DATA" not in self.hop.replies:
            await self._write("503 5.5.1 no valid recipients")
            return True
        if not await self._reply("DATA", "354 go on"):
            return False
        if not self.hop.replies.get("DATA", "354").startswith("354"):
            return True
        if "BODY" in self.hop.disconnect_at:
            await self.reader.readline()
            return False
        data = (await self.reader.readuntil(b"\r\n.\r\n"))[:-3]
        body = data.replace(b"\r\n..", b"\r\n.")
        body = body[1:] if body.startswith(b"..") else body
        taken = Taken(self.sender, self.recipients, body, self.mail_line, self.rcpt_lines, self.secure)
        if self.hop.loses_final_reply:
            self.hop.messages.append(taken)
            return False
        if not await self._reply("END", "250 2.0.0 taken"):
            return False
        if self.hop.replies.get("END", "250").startswith("2"):
            self.hop.messages.append(taken)
        self.after_transaction = True
        self._begin("", "")
        return True

    async def _starttls(self) -> bool:
        if not await self._reply("STARTTLS", "220 2.0.0 go on"):
            return False
        if self.hop.stall_after_starttls:
            await asyncio.sleep(3600)
        if self.hop.tls is None or not self.hop.replies.get("STARTTLS", "220").startswith("220"):
            return True
        await self.writer.start_tls(self.hop.tls)
        self.secure = True
        return True

    async def _reply(self, verb: str, usual: str) -> bool:
        """Say the scripted reply; False when the connection is to break instead."""
        if verb in self.hop.disconnect_at:
            return False
        await asyncio.sleep(self.hop.delays.get(verb, 0))
        reply = self.hop.replies.get(verb, usual)
        await self._write(reply)
        return not reply.startswith("421")

    async def _write(self, text: str) -> None:
        reply = text.encode("utf-8", "surrogateescape") + b"\r\n"
        for octet in reply if self.hop.drip_seconds else ():
            self.writer.write(bytes([octet]))
            await asyncio.sleep(self.hop.drip_seconds)
        if not self.hop.drip_seconds:
            self.writer.write(reply)
        await self.writer.drain()


def _path(line: str) -> str:
    return line[line.index("<") + 1 : line.rindex(">")]


@pytest.fixture
async def hop() -> AsyncIterator[FakeHop]:
    """A next hop that takes everything unless told otherwise."""
    fake = await FakeHop().start()
    yield fake
    await fake.stop()
