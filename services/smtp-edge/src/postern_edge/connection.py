"""A client's connection as octets: what is read ahead, what is written, when it is closed, and how long it may take.

It knows no command. `protocol.EdgeSMTP` is the session on top of it.
"""

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from aiosmtpd.smtp import SMTP

from postern_edge import metrics, replies
from postern_edge.limits import SLOWEST_MESSAGE
from postern_edge.port import Port
from postern_edge.replies import Reply
from postern_edge.session import EdgeSession

if TYPE_CHECKING:
    from postern_edge.inbound.data import Intake

log = structlog.get_logger(__name__)

# What the next octets of the client are. Plain numbers: they are looked at for every packet.
COMMAND: Final = 0
DATA: Final = 1
WAITING: Final = 2  # commands, read ahead until the answer to the last one is there
TLS: Final = 3  # the handshake; what comes after it is read ahead
CLOSING: Final = 4  # discarded: the last reply is on its way
PROXY: Final = 5  # the load balancer's word on whose connection this is

# Why reading is paused, as bits.
BY_READ_AHEAD: Final = 1
BY_WRITES: Final = 2
BY_INTAKE: Final = 4


class Connection(SMTP):
    """An open connection; `deadline` is looked at by the listener's sweep."""

    session: EdgeSession
    transport: asyncio.Transport

    def __init__(self, port: Port, loop: asyncio.AbstractEventLoop) -> None:
        # aiosmtpd's own constructor makes a stream, looks for hooks and logs, for each connection. What it would set
        # and others read is set here.
        self.loop = loop
        self.port = port
        self.event_handler = port.handler
        self.hostname = port.hostname
        self.deadline = math.inf
        self.was_refused = False
        self._limits = port.limits
        self._intake: Intake | None = None
        self._data_deadline = math.inf
        self._handshake_began = math.inf
        self._state = COMMAND
        self._buffer = b""
        self._position = 0  # where in the buffer the next command begins
        self._out: list[bytes] = []
        self._pauses = 0
        self._draining = False
        self._gone = False
        self._half_closed = False

    def _pump(self) -> None:
        """Answer what lies in the buffer."""
        raise NotImplementedError

    def _drop_intake(self) -> None:
        """Forget the message under way."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        """The client sends no more; it may still read the answer to what it sent."""
        self._half_closed = True
        return self._state == WAITING and self.session.tls is None

    def pause_writing(self) -> None:
        """The client does not read our replies: answer nothing more until it does."""
        self._pause(BY_WRITES)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._resume(BY_WRITES)
        if self._state == COMMAND:
            self._pump()

    def expire(self) -> None:
        """The deadline has passed: end the session, at the second time without a word."""
        if self._state == CLOSING:
            self.deadline = math.inf
            self.transport.abort()
            return
        if self._state == PROXY:
            self.send_off("nothing came in time")
            return
        reply = replies.DATA_TOO_SLOW if self._state == DATA else replies.IDLE_TOO_LONG
        log.info("session_expired", reply=reply.id, peer_ip=self.session.peer_ip)
        self.close_with(reply)

    def send_off(self, reason: str) -> None:
        """End a connection of a load balancer that does not say whose it is; nobody is there to be answered."""
        log.warning("proxy_header_refused", peer_ip=self.session.peer_ip, reason=reason)
        self._state = CLOSING
        self.deadline = math.inf
        self.transport.abort()

    def drain(self) -> None:
        """The service stops: a message under way may end, anything else ends now."""
        self._draining = True
        if self._state == COMMAND:
            self.close_with(replies.GOING_DOWN)

    @property
    def is_closing(self) -> bool:
        """Whether nothing but the last reply is left."""
        return self._state == CLOSING

    @property
    def idle_since(self) -> float:
        """The loop's time since when the client has got nowhere; infinite while it is us who it waits for.

        A message is worth time: one that comes at no less than `SLOWEST_MESSAGE` is never idle.
        """
        if self._state == COMMAND:
            return self.deadline - self._limits.command_seconds
        if self._state == DATA and self._intake is not None:
            return self._data_deadline - self._limits.data_seconds + self._intake.received / SLOWEST_MESSAGE
        return self._handshake_began if self._state == TLS else math.inf

    def give_way(self) -> None:
        """End the session for the sake of another client's; within a TLS handshake no word can be said."""
        log.info("connection_gave_way", reply=replies.TOO_MANY_CONNECTIONS.id, peer_ip=self.session.peer_ip)
        if self._state == TLS:
            self.transport.abort()
        else:
            self.close_with(replies.TOO_MANY_CONNECTIONS)

    def hang_up(self, reply: Reply) -> None:
        """Say a last word to a client that sends nothing more, and close."""
        self._say_last(reply)
        self.transport.close()

    def close_with(self, reply: Reply) -> None:
        """Say a last word; then read and discard for a while, so that the client can read it before the end."""
        if self._state == CLOSING:
            return
        self._say_last(reply)
        if self._pauses:
            self._pauses = 0
            self.transport.resume_reading()
        if self.session.tls is None and self.transport.can_write_eof() and not self._half_closed:
            with suppress(OSError):  # the client may be gone already
                self.transport.write_eof()
        else:
            self.transport.close()

    def _say_last(self, reply: Reply) -> None:
        self._state = CLOSING
        self._drop_intake()
        self._buffer, self._position = b"", 0
        self._out.append(reply.wire)
        self._flush()
        self.deadline = self.loop.time() + self._limits.linger_seconds
        metrics.count_closed(reply)

    def _flush(self) -> None:
        if self._out:
            self.transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()

    def _restart_clock(self) -> None:
        self.deadline = self.loop.time() + self._limits.command_seconds

    def _pause(self, why: int) -> None:
        if not self._pauses:
            self.transport.pause_reading()
        self._pauses |= why

    def _resume(self, why: int) -> None:
        if self._pauses & why:
            self._pauses &= ~why
            if not self._pauses and not self._gone:
                self.transport.resume_reading()
