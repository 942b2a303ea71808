"""One SMTP connection to a next hop, on aiosmtplib.

The dialogue is driven command by command, so that each recipient has its own reply. The body goes out as it is: it
came with CRLF line ends alone, so only dots are doubled (RFC 5321 4.5.2); nothing is re-encoded or rewrapped (CASES
63, 64). Addresses are written as they came, without the library's parsing. Every wait is bounded. What the server says
comes back as `Answer`s; `Unusable` means that the connection is of no more use.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from postern_edge.rules.classify import Answer, Stage, answer

PIECE: Final = 256 * 1024
POLL_SECONDS: Final = 0.005


class Unusable(Exception):
    """The connection failed, or the server will not go on; `answer` says how, as far as it may be told."""

    def __init__(self, given: Answer) -> None:
        super().__init__(str(given))
        self.answer = given


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step may take (RFC 5321 4.5.3.2)."""

    connect: float = 30.0
    tls: float = 30.0
    reply: float = 300.0
    final_reply: float = 600.0


def _tls_context() -> ssl.SSLContext:
    """Encryption without knowing whom one talks to: all that opportunistic TLS can promise (RFC 7435 3)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


TLS_CONTEXT: Final = _tls_context()
FAILURES: Final = (aiosmtplib.SMTPException, OSError)  # OSError holds TimeoutError and SSLError


class Connection:
    """An open connection after EHLO. `used` tells that a transaction went through it before."""

    def __init__(self, client: aiosmtplib.SMTP, timeouts: Timeouts) -> None:
        self._client = client
        self._timeouts = timeouts
        self.used = False
        self.in_transaction = False
        self.secure = False

    @classmethod
    async def open(cls, address: str, port: int, hostname: str, timeouts: Timeouts) -> "Connection":
        """Connect to an address that was judged before, and say EHLO."""
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        client = aiosmtplib.SMTP(local_hostname=hostname, sock=sock, timeout=timeouts.connect, start_tls=False)
        connected = False
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(timeouts.connect):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
            await client.connect()
            connection = cls(client, timeouts)
            await connection._hello()
            connected = True
        except FAILURES as error:
            raise _unusable(error, Stage.CONNECT) from error
        finally:
            if not connected:
                client.close()
                sock.close()
        return connection

    async def _hello(self) -> None:
        try:
            await self._client.ehlo(timeout=self._timeouts.connect)
        except aiosmtplib.SMTPHeloError as error:
            if not 500 <= error.code < 600:
                raise
            await self._client.helo(timeout=self._timeouts.connect)  # RFC 5321 3.2

    def offers(self, extension: str) -> bool:
        """Whether the server's EHLO named an extension."""
        return self._client.supports_extension(extension)

    @property
    def max_size(self) -> int | None:
        """The server's fixed limit (RFC 1870 4), where it has one."""
        value = self._client.esmtp_extensions.get("size", "")
        return int(value) if value.isdigit() and int(value) > 0 else None

    async def start_tls(self, server_name: str) -> None:
        """Encrypt, within a bounded time (CASES 60)."""
        try:
            async with asyncio.timeout(self._timeouts.tls):
                await self._client.starttls(
                    server_hostname=server_name,
                    tls_context=TLS_CONTEXT,
                    validate_certs=False,
                    timeout=self._timeouts.tls,
                )
                await self._hello()
            self.secure = True
        except FAILURES as error:
            self.close()
            raise _unusable(error, Stage.TLS) from error

    async def command(self, stage: Stage, verb: bytes, *arguments: bytes) -> Answer:
        """Send one command and return the reply."""
        try:
            response = await self._client.execute_command(verb, *arguments, timeout=self._timeouts.reply)
        except FAILURES as error:
            self.close()
            raise _unusable(error, stage) from error
        given = answer(stage, response.code, response.message)
        if response.code == 421:  # RFC 5321 3.8: the server closes
            raise Unusable(given)
        return given

    async def send(self, body: bytes) -> Answer:
        """Send a body that is in memory, after 354."""
        protocol = self._protocol()
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        if body.startswith(b"."):
            stuffed = b"." + stuffed
        try:
            protocol.write(stuffed + (b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n"))
            if len(body) > PIECE:
                await self._flush(protocol)
            return await self._end(protocol)
        except FAILURES as error:
            self.close()
            raise _unusable(error, Stage.END) from error

    async def stream(self, pieces: AsyncIterator[bytes]) -> Answer:
        """Send a body piece by piece, after 354; memory stays bounded."""
        protocol = self._protocol()
        tail = b"\r\n"  # the last octets before the next piece: a line end and a dot may lie on both sides of a border
        try:
            async for piece in pieces:
                joined = tail + piece
                protocol.write(joined.replace(b"\r\n.", b"\r\n..")[len(tail) :])
                tail = joined[-2:]
                await self._flush(protocol)
            protocol.write(b".\r\n" if tail == b"\r\n" else b"\r\n.\r\n")
            return await self._end(protocol)
        except FAILURES as error:
            self.close()
            raise _unusable(error, Stage.END) from error

    def _protocol(self) -> SMTPProtocol:
        protocol = self._client.protocol
        if protocol is None:
            raise Unusable(Answer(Stage.END, 0, "connection lost"))
        return protocol

    async def _flush(self, protocol: SMTPProtocol) -> None:
        """Wait until most of what was written is on its way; a server that reads nothing is given up."""
        loop = asyncio.get_running_loop()
        transport = protocol.transport
        deadline, before = loop.time() + self._timeouts.reply, -1
        while isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
            waiting = transport.get_write_buffer_size()
            if waiting <= PIECE:
                return
            if waiting != before:
                deadline, before = loop.time() + self._timeouts.reply, waiting
            elif loop.time() > deadline:
                raise TimeoutError
            await asyncio.sleep(POLL_SECONDS)

    async def _end(self, protocol: SMTPProtocol) -> Answer:
        response = await protocol.read_response(timeout=self._timeouts.final_reply)
        if response.code == 421:
            self.close()
        return answer(Stage.END, response.code, response.message)

    async def quit(self) -> None:
        """Say goodbye, briefly, and close."""
        try:
            async with asyncio.timeout(2.0):
                await self._client.quit()
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            pass
        self.close()

    def close(self) -> None:
        """Close without a word."""
        self._client.close()

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed the connection meanwhile."""
        return self._client.is_connected


def _unusable(error: Exception, stage: Stage) -> Unusable:
    """What may be told of a failure."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        at = Stage.GREETING if stage is Stage.CONNECT else stage
        return Unusable(answer(at, max(error.code, 0), error.message))
    if isinstance(error, TimeoutError):
        return Unusable(Answer(stage, 0, "timed out"))
    if isinstance(error, ssl.SSLError):
        return Unusable(Answer(stage, 0, "TLS handshake failed"))
    if isinstance(error, ConnectionRefusedError):
        return Unusable(Answer(stage, 0, "connection refused"))
    return Unusable(Answer(stage, 0, "connection failed" if stage is Stage.CONNECT else "connection lost"))
