"""`EdgeSMTP`: one client's connection on the inbound port.

It is aiosmtpd's `SMTP` to whoever handles it (session, envelope, hooks), but reads and answers by itself: no
stream, no task and no timer for each connection. Commands are answered as they lie in the buffer, those of one
packet in one write (RFC 2920). The message is fed to its `Intake` a chunk at a time. Only what must wait becomes a
task: a hook that says so, the spool, TLS.

It promises: lines end in CR LF or the session does; nothing sent before the TLS handshake is read after it; bounded
memory and time whatever the client sends; 451 for every surprise, with the cause in the log under an `error_id`.
"""

import asyncio
import math
import ssl
from collections.abc import Awaitable, Coroutine
from typing import Any, cast

import structlog

from postern_common.errors import Temporary
from postern_common.ids import new_id
from postern_edge import metrics, replies
from postern_edge.commands import OTHER, PRODUCTIVE, VERBS, Answer, decode_argument, is_foreign, is_tls_hello
from postern_edge.connection import (
    BY_INTAKE,
    BY_READ_AHEAD,
    BY_WRITES,
    CLOSING,
    COMMAND,
    DATA,
    PROXY,
    TLS,
    WAITING,
    Connection,
)
from postern_edge.inbound.data import Intake
from postern_edge.inbound.proxy_header import BadHeader, header_end, parse
from postern_edge.interfaces import TlsInfo
from postern_edge.limits import COMMAND_FLOOD, COMMAND_LINE, READ_AHEAD
from postern_edge.port import Port
from postern_edge.replies import Reply
from postern_edge.session import EdgeEnvelope, EdgeSession

log = structlog.get_logger(__name__)


class EdgeSMTP(Connection):
    """A connection; the methods without underscore are for `commands`, the hooks and the listener."""

    envelope: EdgeEnvelope

    def __init__(self, port: Port, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(port, loop)
        self.messages_left = port.limits.messages
        self._verb = OTHER  # of the command that is being answered
        self._task: asyncio.Task[None] | None = None
        self._heard = False  # whether anything was read yet
        self._bad_commands = self._errors = self._idle_commands = self._commands = 0

    # -- What asyncio calls --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected: greet, or refuse."""
        self.transport = cast(asyncio.Transport, transport)
        self.session = EdgeSession(self.loop)
        self.session.peer = transport.get_extra_info("peername")
        self.session.peer_ip = str(self.session.peer[0]) if self.session.peer else ""
        self.reset_transaction()
        if self.port.is_balancer(self.session.peer_ip):
            self._state = PROXY
            self.deadline = self.loop.time() + self._limits.proxy_seconds
            self.port.expect(self)
        else:
            self._greet()

    def _greet(self) -> None:
        refusal = self.port.enter(self, self.session.peer_ip)
        if refusal is not None:
            log.info("connection_refused", reply=refusal.id, peer_ip=self.session.peer_ip)
            self.hang_up(refusal)
            return
        self._restart_clock()
        self.transport.write(self.port.banner)

    def _take_proxy_header(self) -> None:
        """Learn from the load balancer who the client is; what the client says follows."""
        try:
            end = header_end(self._buffer)
            if end is None:
                return
            client = parse(self._buffer[:end])
        except BadHeader as error:
            self.send_off(str(error))
            return
        if client is not None:
            self.session.peer = cast(Any, (client.address, client.port))
            self.session.peer_ip = client.address
        self._buffer = self._buffer[end:]
        self._state = COMMAND
        self._greet()
        if self._buffer and self._state == COMMAND:
            self._pump()

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        metrics.OCTETS.received += len(data)
        state = self._state
        if state == DATA:
            self._feed(data)
        elif state != CLOSING:
            self._buffer = self._buffer + data if self._buffer else data
            if state == COMMAND:
                self._pump()
            elif state == PROXY:
                self._take_proxy_header()
            elif len(self._buffer) > READ_AHEAD:
                self._pause(BY_READ_AHEAD)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; a message that is being spooled is spooled none the less."""
        if self._gone:
            return
        self._gone = True
        self._state = CLOSING
        self.deadline = math.inf
        self._drop_intake()
        self.port.leave(self, self.session.peer_ip)

    # -- What commands and hooks call ----------------------------------------------------------------------------------

    def reset_transaction(self) -> None:
        """Forget sender and recipients."""
        self.envelope = EdgeEnvelope(self._limits.max_message_bytes)

    def answer(self, answer: Reply | Awaitable[Reply]) -> Answer:
        """The reply, or None if it must be waited for."""
        if isinstance(answer, Reply):
            return answer
        self._wait_for(self._answer_later(answer))
        return None

    def begin_data(self) -> None:
        """Ask for the message, when its intake is ready."""
        intake = self.port.handler.handle_DATA(self, self.session, self.envelope)
        if isinstance(intake, Intake):
            self._start_reading(intake)
        else:
            self._wait_for(self._start_reading_later(intake))

    def begin_tls(self, context: ssl.SSLContext) -> None:
        """Answer STARTTLS and shake hands; from here on nothing in clear is read."""
        self.transport.pause_reading()  # so that no octet in clear can follow; the handshake resumes it
        self._buffer, self._position = b"", 0  # RFC 3207 4.2, CASES 48: what came with STARTTLS is discarded
        self._out.append(replies.READY_FOR_TLS.wire)
        self._state = TLS
        self.deadline = math.inf  # the handshake has a time limit of its own
        self._handshake_began = self.loop.time()
        self._task = self.loop.create_task(self._shake_hands(context))

    def intake_has_room(self) -> None:
        """The store has caught up with the message."""
        self._resume(BY_INTAKE)

    # -- Commands ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Answer the commands that lie in the buffer, as far as they go, in one write."""
        if self._draining and self._state == COMMAND:
            self.close_with(replies.GOING_DOWN)  # whatever lies there: no new message begins
            return
        if not self._heard and self._buffer:
            self._heard = True
            if is_tls_hello(self._buffer[0]):
                self._send_away()
        while self._state == COMMAND and not self._pauses & BY_WRITES:
            end = self._buffer.find(b"\n", self._position) + 1
            if end == 0:
                if len(self._buffer) - self._position > COMMAND_FLOOD:
                    self.close_with(replies.LINE_WITHOUT_END)
                break
            line = self._buffer[self._position : end]
            if not self._position:
                self._restart_clock()  # a client gets its time anew for each group of commands
            self._position = end
            self._take_line(line)
        if self._position:
            self._buffer = self._buffer[self._position :]
            self._position = 0
        self._flush()
        if self._state == COMMAND and self._half_closed and not self._pauses:
            self.hang_up(replies.BYE)

    def _take_line(self, line: bytes) -> None:
        """Answer one line; any surprise is 451."""
        if not line.endswith(b"\r\n") or line.find(b"\r") != len(line) - 2:
            self.close_with(replies.BARE_LINE_END)
            return
        word, _, raw = line[:-2].partition(b" ")
        verb = VERBS.get(word) or VERBS.get(word.upper())
        if verb is None:
            self._take_unknown(line)
            return
        self._verb = verb.name
        argument = decode_argument(raw)
        answer: Answer
        if len(line) > verb.longest:
            answer = replies.COMMAND_TOO_LONG
        elif argument is None:
            answer = replies.COMMAND_SYNTAX
        else:
            try:
                answer = verb.run(self, argument.strip(" "))
            except Exception as error:  # noqa: BLE001 - the loop's edge
                answer = self._surprise(error)
        if answer is not None:
            self._say(answer)

    def _take_unknown(self, line: bytes) -> None:
        self._verb = OTHER
        if is_foreign(line[:-2], greeted=bool(self.session.host_name)):
            self._send_away()
            return
        self._bad_commands += 1
        if self._bad_commands > self._limits.bad_commands:
            self.close_with(replies.TOO_MANY_BAD_COMMANDS)
        else:
            self._say(replies.COMMAND_TOO_LONG if len(line) > COMMAND_LINE else replies.NOT_RECOGNISED)

    def _send_away(self) -> None:
        log.info("foreign_client", reply=replies.NOT_SMTP.id, peer_ip=self.session.peer_ip)
        self.close_with(replies.NOT_SMTP)

    def _say(self, answer: Reply | bytes) -> None:
        """Answer the command `_verb`, and keep count of what the session costs."""
        self._commands += 1
        if self._verb not in PRODUCTIVE:
            self._idle_commands += 1
        if isinstance(answer, bytes):
            self._out.append(answer)
            metrics.count_command(self._verb, 250)
        else:
            self._out.append(answer.wire)
            metrics.count_command(self._verb, answer.code)
            if answer.permanent:
                self._errors += 1
        limits = self._limits
        if self._errors > limits.errors:
            self.close_with(replies.TOO_MANY_ERRORS)
        elif self._idle_commands > limits.idle_commands or self._commands > limits.commands:
            self.close_with(replies.TOO_MANY_COMMANDS)

    # -- The message ---------------------------------------------------------------------------------------------------

    def _start_reading(self, intake: Intake) -> None:
        if self._position < len(self._buffer):
            intake.abandon()
            self.close_with(replies.NOT_SYNCHRONISED)  # RFC 2920 3.1: nothing may follow DATA before its 354
            return
        self._intake = intake
        self._state = DATA
        now = self.loop.time()
        self._data_deadline = now + self._limits.data_seconds
        self.deadline = min(self._data_deadline, now + self._limits.data_idle_seconds)
        self._say(replies.GO_AHEAD)

    def _feed(self, data: bytes) -> None:
        """Octets of the message."""
        intake = cast(Intake, self._intake)
        try:
            rest = intake.feed(data)
        except Exception as error:  # noqa: BLE001 - the loop's edge
            self.close_with(self._surprise(error))
            return
        refusal = intake.abort_reply
        if refusal is not None:
            metrics.count_message(refusal)
            log.info("message_aborted", reply=refusal.id, queue_id=intake.queue_id, peer_ip=self.session.peer_ip)
            self.close_with(refusal)
        elif rest is None:
            self.deadline = min(self._data_deadline, self.loop.time() + self._limits.data_idle_seconds)
            if intake.congested:
                self._pause(BY_INTAKE)
        else:
            self._intake = None
            self._buffer = rest
            self._resume(BY_INTAKE)
            self._wait_for(self._finish(intake))

    def _drop_intake(self) -> None:
        if self._intake is not None:
            self._intake.abandon()
            self._intake = None

    # -- What must wait ------------------------------------------------------------------------------------------------

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Read no command until `work` has answered the last one."""
        self._state = WAITING
        self.deadline = math.inf
        self._task = self.loop.create_task(work)

    def _go_on(self, answer: Reply) -> None:
        """Give the answer that was waited for and take up the commands that came meanwhile."""
        if self._state != WAITING:
            return
        self._state = COMMAND
        self._restart_clock()
        self._say(answer)
        self._resume(BY_READ_AHEAD)
        self._pump()

    async def _answer_later(self, answer: Awaitable[Reply]) -> None:
        try:
            reply = await answer
        except Exception as error:  # noqa: BLE001 - the loop's edge
            reply = self._surprise(error)
        self._go_on(reply)

    async def _start_reading_later(self, coming: Awaitable[Intake | Reply]) -> None:
        try:
            intake = await coming
        except Exception as error:  # noqa: BLE001 - the loop's edge
            intake = self._surprise(error)
        if isinstance(intake, Reply):
            self.reset_transaction()
            self._go_on(intake)
        elif self._state == WAITING:
            self._start_reading(intake)
            self._flush()
        else:
            intake.abandon()

    async def _finish(self, intake: Intake) -> None:
        try:
            reply = await intake.finish()
        except Exception as error:  # noqa: BLE001 - the loop's edge
            reply = self._surprise(error)
        self.reset_transaction()
        self.messages_left -= 1
        if reply.ok:
            self._idle_commands = self._commands = 0
        self._go_on(reply)

    async def _shake_hands(self, context: ssl.SSLContext) -> None:
        started = self.loop.time()
        try:
            transport = await self.loop.start_tls(
                self.transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._limits.tls_seconds,
                ssl_shutdown_timeout=self._limits.linger_seconds,
            )
        except Exception as error:  # noqa: BLE001 - the loop's edge; a loop may raise anything for a lost transport
            log.info("tls_failed", reason=type(error).__name__, peer_ip=self.session.peer_ip)
            self.transport.abort()
            self.connection_lost(error)
            return
        if transport is None or self._gone or transport.get_extra_info("ssl_object") is None:
            # The connection was cut off meanwhile, by us: the loop tells no error then.
            (transport or self.transport).abort()
            self.connection_lost(None)
            return
        metrics.PHASE_TLS.observe(self.loop.time() - started)
        self._begin_again(transport)

    def _begin_again(self, transport: asyncio.Transport) -> None:
        """A session under TLS knows nothing of what was said before it (RFC 3207 4.2)."""
        if self._pauses:  # the client was quick: what it sent is bounded, and the handshake's transport reads again
            self._pauses = 0
            self.transport.resume_reading()
        self.transport = transport
        before, self.session = self.session, EdgeSession(self.loop)
        self.session.peer, self.session.peer_ip = before.peer, before.peer_ip
        ssl_object = transport.get_extra_info("ssl_object")
        cipher = ssl_object.cipher()
        self.session.ssl = {"ssl_object": ssl_object, "cipher": cipher}
        self.session.tls = TlsInfo(ssl_object.version(), cipher[0])
        self.reset_transaction()
        self._state = COMMAND
        self._restart_clock()
        self._pump()

    def _surprise(self, error: Exception) -> Reply:
        """What is not known is temporary (DESIGN, convention 7); the cause goes to the log only."""
        if isinstance(error, Temporary):
            log.warning("command_deferred", verb=self._verb, reason=error.reason)
        else:
            log.error("session_failed", verb=self._verb, error_id=new_id("err"), exc_info=error)
        return replies.SOME_FAILURE
