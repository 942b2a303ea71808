"""One SMTP connection to a next hop, on aiosmtplib.

Each recipient has its own reply, also where commands are sent together. The body goes out as it is: it
came with CRLF line ends alone, so only dots are doubled (RFC 5321 4.5.2); nothing is re-encoded or rewrapped (CASES
63, 64). Addresses are written as they came, without the library's parsing. Every wait is bounded. What the server says
comes back as `Answer`s; `Unusable` means that the connection is of no more use.
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

import aiosmtplib
from aiosmtplib.response import SMTPResponse

from postern_edge.adapters.certificates import NotVouchedFor, check_dane, sent_certificates
from postern_edge.adapters.dialogue import Dialogue
from postern_edge.rules.classify import Answer, Stage, answer
from postern_edge.rules.tls_policy import Level, PolicyName, Requirement, TlsFault, TlsUsed

PIECE: Final = 256 * 1024
POLL_SECONDS: Final = 0.005
GOODBYE_SECONDS: Final = 2.0
_TOO_EARLY: Final = "the mail server replied before the message's end"


class Unusable(Exception):
    """The connection failed, or the server will not go on; `answer` says how, as far as it may be told."""

    def __init__(self, given: Answer, fault: TlsFault | None = None) -> None:
        super().__init__(str(given))
        self.answer = given
        self.fault = fault  # where TLS was what failed

    @property
    def shows_life(self) -> bool:
        """Whether the server did all that it could, and only is not who it should be."""
        return self.fault is not None and self.fault.result_type != "validation-failure"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step may take (RFC 5321 4.5.3.2)."""

    connect: float = 30.0
    tls: float = 30.0
    reply: float = 300.0
    final_reply: float = 600.0


def _unverified() -> ssl.SSLContext:
    """Encryption without knowing whom one talks to: all that opportunistic TLS can promise (RFC 7435 3)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def verified_context() -> ssl.SSLContext:
    """The system's authorities vouch for the server's name, or for its address where that is all it has (RFC 8446,
    RFC 9525).
    """
    return ssl.create_default_context()


UNVERIFIED: Final = _unverified()
FAILURES: Final = (aiosmtplib.SMTPException, OSError)  # OSError holds TimeoutError and SSLError


class Connection:
    """An open connection after EHLO. `used` tells that a transaction went through it before."""

    def __init__(self, client: aiosmtplib.SMTP, timeouts: Timeouts) -> None:
        self._client = client
        self._timeouts = timeouts
        self.used = False
        self.in_transaction = False
        self.one_by_one = False  # the server is known to lose its place where commands come together
        self.lost_its_place = False  # it did
        self.secure = False
        self.met = Requirement()
        self.policy: PolicyName = "opportunistic"  # the TLS policy that it meets
        self._version_and_cipher: tuple[str, str] | None = None
        self._talk: Dialogue | None = None
        self.ends = ("", "")  # the addresses of this side and of the server

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
            connection.ends = sock.getsockname()[0], address
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

    async def start_tls(self, server_name: str, wanted: Requirement) -> None:
        """Encrypt, within a bounded time (CASES 60), and go on only with a server that meets `wanted`."""
        context = verified_context() if wanted.level is Level.WEBPKI else UNVERIFIED
        try:
            async with asyncio.timeout(self._timeouts.tls):
                await self._client.starttls(
                    server_hostname=server_name.strip("[]").removeprefix("IPv6:").rstrip("."),
                    tls_context=context,
                    timeout=self._timeouts.tls,
                )
                session: ssl.SSLObject = self._client.get_transport_info("ssl_object")
                if wanted.level is Level.DANE:
                    check_dane(sent_certificates(session), wanted.records, wanted.names, datetime.now(UTC))
                await self._hello()
            cipher = session.cipher()
            self._version_and_cipher = session.version() or "", cipher[0] if cipher else ""
            self.secure, self.met = True, wanted
        except NotVouchedFor as error:
            raise Unusable(Answer(Stage.TLS, 0, str(error)), error.fault) from error
        except (*FAILURES, ValueError) as error:  # ValueError: the name is none that a certificate may have
            raise Unusable(_unusable(error, Stage.TLS).answer, tls_fault(error)) from error
        finally:
            if not self.secure:
                self.close()

    @property
    def tls(self) -> TlsUsed:
        """What it goes by, for the trace."""
        return TlsUsed(self.policy, *(self._version_and_cipher or ()))

    async def command(self, stage: Stage, line: bytes) -> Answer:
        """Send one command and return the reply."""
        [given] = await self.group([(stage, line)])
        return given

    async def group(self, commands: Sequence[tuple[Stage, bytes]]) -> list[Answer]:
        """Send commands in one write and return their replies; more than one for a server that offers PIPELINING."""
        answers: list[Answer] = []
        stage = commands[0][0]
        try:
            dialogue = self._dialogue()
            dialogue.ask(b"".join(_line(command) for _, command in commands), len(commands))
            for stage, _ in commands:
                response = await dialogue.reply(self._timeouts.reply)
                answers.append(answer(stage, response.code, response.message))
                if response.code == 421:  # RFC 5321 3.8: the server closes
                    raise Unusable(answers[-1])
        except FAILURES as error:
            self.close()
            # One that closed while it was idle is only gone.
            self.lost_its_place = len(commands) > 1 and (bool(answers) or not self.used)
            raise _unusable(error, stage) from error
        return answers

    async def send(self, body: bytes) -> Answer:
        """Send a body that is in memory, after 354."""
        if len(body) > PIECE:
            return await self.stream(_in_pieces(body))
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        if body.startswith(b"."):
            stuffed = b"." + stuffed
        try:
            dialogue = self._for_message()
            dialogue.write(stuffed + (b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n"))
            return self._final(await dialogue.reply(self._timeouts.final_reply))
        except FAILURES as error:
            self.close()
            raise _unusable(error, Stage.END) from error

    async def stream(self, pieces: AsyncIterator[bytes]) -> Answer:
        """Send a body piece by piece, after 354; memory stays bounded."""
        tail = b"\r\n"  # the last octets before the next piece: a line end and a dot may lie on both sides of a border
        try:
            dialogue = self._for_message()
            async for piece in pieces:
                joined = tail + piece
                dialogue.write(joined.replace(b"\r\n.", b"\r\n..")[len(tail) :])
                tail = joined[-2:]
                await self._flush(dialogue)
                if dialogue.has_spoken:
                    return self._early(await dialogue.reply(0.0))
            if dialogue.has_spoken:  # while it was looked whether this is all
                return self._early(await dialogue.reply(0.0))
            dialogue.write(b".\r\n" if tail == b"\r\n" else b"\r\n.\r\n")
            return self._final(await dialogue.reply(self._timeouts.final_reply))
        except FAILURES as error:
            self.close()
            raise _unusable(error, Stage.END) from error

    def _dialogue(self) -> Dialogue:
        """The connection in our own hands, from the first command of a transaction on."""
        if self._talk is None:
            if self._client.transport is None:
                raise aiosmtplib.SMTPServerDisconnected("connection lost")
            self._talk = Dialogue(cast(asyncio.Transport, self._client.transport))
        return self._talk

    def _for_message(self) -> Dialogue:
        """What a message is written to. Whatever the server said beyond its 354 would be taken for the reply to the
        message.
        """
        dialogue = self._dialogue()
        if not dialogue.is_in_step:
            self.close()
            raise Unusable(Answer(Stage.END, 0, _TOO_EARLY))
        dialogue.expect(1)
        return dialogue

    async def _flush(self, dialogue: Dialogue) -> None:
        """Wait until most of what was written is on its way, or a reply came; one that reads nothing is given up."""
        loop = asyncio.get_running_loop()
        transport = dialogue.transport
        deadline, before = loop.time() + self._timeouts.reply, -1
        while dialogue.is_open and not dialogue.has_spoken:
            waiting = transport.get_write_buffer_size()
            if waiting <= PIECE:
                return
            if waiting != before:
                deadline, before = loop.time() + self._timeouts.reply, waiting
            elif loop.time() > deadline:
                raise TimeoutError
            await asyncio.sleep(POLL_SECONDS)

    def _early(self, response: SMTPResponse) -> Answer:
        """A server that speaks before the end: a refusal counts, anything else tells nothing."""
        self.close()
        if 400 <= response.code < 600:
            return answer(Stage.END, response.code, response.message)
        return Answer(Stage.END, 0, _TOO_EARLY)

    def _final(self, response: SMTPResponse) -> Answer:
        if response.code == 421 or response.code // 100 not in {2, 4, 5}:
            self.close()  # what makes no sense is the reply to something else, and the one to the message may follow
        return answer(Stage.END, response.code, response.message)

    async def quit(self) -> None:
        """Say goodbye, briefly, and close."""
        try:
            dialogue = self._dialogue()
            dialogue.ask(b"QUIT\r\n", 1)
            await dialogue.reply(GOODBYE_SECONDS)
        except FAILURES:
            pass
        finally:  # also when whoever waits is told to stop: nobody else knows of this connection
            self.close()

    def close(self) -> None:
        """Close without a word, and without waiting for a server that does not read."""
        transport = cast(asyncio.Transport | None, self._client.transport)
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()
        self._client.close()

    @property
    def is_astray(self) -> bool:
        """Whether the server has said more than it was asked, or what is no reply."""
        return self._talk is not None and self._talk.is_astray

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed the connection meanwhile."""
        return self._client.is_connected if self._talk is None else self._talk.is_open


def _line(command: bytes) -> bytes:
    """A command as it is sent; what came from outside was checked, and must not add a line of its own."""
    if b"\r" in command or b"\n" in command:
        raise ValueError("a line end within a command")
    return command + b"\r\n"


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def _unusable(error: Exception, stage: Stage) -> Unusable:
    """What may be told of a failure."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        at = Stage.GREETING if stage is Stage.CONNECT else stage
        return Unusable(answer(at, max(error.code, 0), error.message))
    if isinstance(error, TimeoutError):
        return Unusable(Answer(stage, 0, "timed out"))
    if isinstance(error, ssl.SSLCertVerificationError):
        # OpenSSL's own words on the certificate: it has expired, its name is another, nobody known signed it …
        return Unusable(answer(stage, 0, f"the mail server's certificate is not valid: {error.verify_message}"))
    if isinstance(error, ssl.SSLError | ValueError):
        return Unusable(Answer(stage, 0, "TLS handshake failed"))
    if isinstance(error, ConnectionRefusedError):
        return Unusable(Answer(stage, 0, "connection refused"))
    return Unusable(Answer(stage, 0, "connection failed" if stage is Stage.CONNECT else "connection lost"))


_EXPIRED: Final = 10  # OpenSSL: X509_V_ERR_CERT_HAS_EXPIRED
_MISNAMED: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def tls_fault(error: Exception) -> TlsFault:
    """What a failure of STARTTLS or of the handshake counts as (RFC 8460 4.3.1)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _EXPIRED:
            return TlsFault("certificate-expired", "")
        if error.verify_code in _MISNAMED:
            return TlsFault("certificate-host-mismatch", "")
        return TlsFault("certificate-not-trusted", f"openssl-{error.verify_code}")
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return TlsFault("validation-failure", f"starttls-refused-{max(error.code, 0)}")
    if isinstance(error, TimeoutError):
        return TlsFault("validation-failure", "tls-timed-out")
    return TlsFault("validation-failure", "tls-handshake-failed")
