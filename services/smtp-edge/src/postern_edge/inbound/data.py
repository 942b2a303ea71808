"""DATA: takes one message in, from 354 to the reply after its end (SPEC R4, R13, F5).

Bytes come in by `feed`, on the loop and without waiting. A body that grows past 1 MiB, or a smaller one when memory
is tight, leaves for the store while it is read; while the store is slower than the client, `congested` asks for a
pause. `finish` says 250 only when the spool has the message durably; whatever goes wrong instead is temporary, and
nothing is kept.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from postern_common.errors import Temporary
from postern_edge import metrics, replies
from postern_edge.interfaces import AcceptedMessage, BodyUpload, Spool, SpoolFull, StoredBody
from postern_edge.limits import HEADER, SPILL
from postern_edge.port import Port
from postern_edge.reader import DataReader, Fault
from postern_edge.replies import Reply
from postern_edge.rules.queue_ids import new_queue_id
from postern_edge.rules.trace_headers import MAX_HOPS, HeaderFacts, Hop, header_section, received_line, scan_headers
from postern_edge.session import EdgeEnvelope, EdgeSession

log = structlog.get_logger(__name__)

_FAULTS = {
    Fault.BARE_LINE_END: replies.BARE_LINE_END,
    Fault.NUL: replies.NUL_IN_MESSAGE,
    Fault.LINE_TOO_LONG: replies.LINE_TOO_LONG,
    Fault.TOO_LARGE: replies.TOO_LARGE,
}
FLOOD: Final = 4  # a message this many times the port's limit is not waited out
_aborting: Final[set[asyncio.Task[None]]] = set()  # keeps the tasks alive


class Intake:
    """One message on its way in."""

    def __init__(
        self, port: Port, session: EdgeSession, envelope: EdgeEnvelope, spool: Spool, on_room: Callable[[], None]
    ) -> None:
        self._port = port
        self._session = session
        self._envelope = envelope
        self._spool = spool
        self._on_room = on_room
        self._reader = DataReader(envelope.max_message_bytes, port.limits.line_bytes)
        self._charged = min(envelope.parameters.size or HEADER // 4, HEADER)
        port.budget.charge(self._charged)
        self._released = False
        self._started = time.monotonic()
        self._received_at = port.clock.now()
        self.queue_id = new_queue_id(self._received_at)
        self._trace = b""
        self._head = b""
        self._is_ascii = True  # what went to the store so far
        self._upload: BodyUpload | None = None
        self._spilling: asyncio.Task[None] | None = None
        self._failure: Reply | None = None

    def feed(self, chunk: bytes) -> bytes | None:
        """Take bytes in; returns those after the message's end, or None while it has not come."""
        rest = self._reader.feed(chunk)
        if self._failure is not None:
            self._reader.take()
        self._charge(self._reader.kept)
        if rest is None and self._should_spill():
            self._spilling = asyncio.get_running_loop().create_task(self._spill())
        return rest

    @property
    def congested(self) -> bool:
        """Whether the store is behind and the client should be paused."""
        return self._spilling is not None and self._reader.kept > SPILL

    @property
    def received(self) -> int:
        """Octets that came so far."""
        return self._reader.received

    @property
    def abort_reply(self) -> Reply | None:
        """The reply that ends the session in the middle of the message, where one must."""
        if self._reader.fault is Fault.BARE_LINE_END:
            return replies.BARE_LINE_END
        if self._reader.received > FLOOD * self._port.limits.max_message_bytes:
            return replies.TOO_LARGE
        return None

    def abandon(self) -> None:
        """The client went away, or was sent away: keep nothing."""
        self._release()
        if self._spilling is not None:
            task = asyncio.get_running_loop().create_task(self._abort_upload())
            _aborting.add(task)
            task.add_done_callback(_aborting.discard)

    async def _abort_upload(self) -> None:
        if self._spilling is not None:
            self._spilling.cancel()
            await asyncio.gather(self._spilling, return_exceptions=True)
        if self._upload is not None:
            await self._upload.abort()

    async def finish(self) -> Reply:
        """The message's end has come: keep it durably, and say how that went."""
        metrics.PHASE_DATA.observe(time.monotonic() - self._started)
        try:
            if self._spilling is not None:
                await self._spilling
            reply = await self._judge()
        except Exception:
            metrics.MESSAGES_DEFERRED.inc()
            await self._abort_upload()
            raise
        finally:
            self._release()
        metrics.count_message(reply)
        if not reply.ok:
            await self._abort_upload()
            log.info("message_refused", reply=reply.id, queue_id=self.queue_id, bytes=self._reader.size)
        return reply

    async def _judge(self) -> Reply:
        if self._reader.fault is not None:
            return _FAULTS[self._reader.fault]
        if self._failure is not None:
            return self._failure
        content = self._reader.take()
        section = header_section(self._head or content[:HEADER])
        if section is None:
            if self._reader.size > HEADER:
                return replies.HEADER_TOO_LARGE
            section = content  # a message of header lines only
        facts = scan_headers(section)
        if facts.hops > MAX_HOPS:
            return replies.MAIL_LOOP  # RFC 5321 6.3
        try:
            return await self._store(content, facts)
        except Temporary as error:
            return self._trouble(error)

    async def _store(self, content: bytes, facts: HeaderFacts) -> Reply:
        started = time.monotonic()
        stored: StoredBody | None = None
        if self._upload is not None:
            await self._upload.write(content)
            stored = await self._upload.close()
        trace = self._trace_line()
        is_ascii = self._is_ascii and content.isascii() and trace.isascii()
        body = b"" if stored else trace + content
        envelope, session = self._envelope, self._session
        message = AcceptedMessage(
            queue_id=self.queue_id,
            peer_ip=session.peer_ip,
            helo=session.host_name or "",
            tls=session.tls,
            sender=envelope.mail_from or "",
            recipients=envelope.recipients,
            body=body,
            stored_body=stored,
            size=len(trace) + self._reader.size,
            smtputf8=envelope.smtp_utf8,
            body_type="7BIT" if is_ascii else "8BITMIME",
            envid=envelope.parameters.envid,
            ret=envelope.parameters.ret,
            subject=facts.subject,
            message_id=facts.message_id,
            received_at=self._received_at,
        )
        spooled = await self._spool.accept(message)
        metrics.PHASE_SPOOL.observe(time.monotonic() - started)
        metrics.MESSAGE_SIZE.observe(message.size)
        log.info(
            "message_accepted",
            queue_id=self.queue_id,
            message_ids=spooled.message_ids,
            bytes=message.size,
            recipients=len(message.recipients),
        )
        return replies.queued(self.queue_id)

    def _should_spill(self) -> bool:
        if self._spilling is not None and not self._spilling.done():
            return False
        threshold = HEADER if self._port.budget.is_tight else SPILL
        return self._reader.kept > threshold and self._failure is None

    async def _spill(self) -> None:
        """Hand what was read to the store, until it has caught up."""
        try:
            if self._upload is None:
                await self._begin_upload()
            while self._upload is not None and self._reader.kept > HEADER:
                chunk = self._reader.take()
                self._is_ascii = self._is_ascii and chunk.isascii()
                self._charge(len(chunk))
                self._on_room()
                await self._upload.write(chunk)
        except Temporary as error:
            self._failure = self._trouble(error)
        except Exception as error:
            log.error("body_upload_failed", queue_id=self.queue_id, exc_info=error)
            self._failure = replies.SOME_FAILURE
        self._charge(self._reader.kept)
        self._on_room()

    async def _begin_upload(self) -> None:
        """Hand over the beginning, with our Received line before it; a header without an end is not worth a store."""
        chunk = self._reader.take()
        self._head = chunk[:HEADER]
        self._is_ascii = chunk.isascii()
        if header_section(self._head) is None:
            self._failure = replies.HEADER_TOO_LARGE
            return
        metrics.STREAMED.inc()
        self._upload = self._spool.open_body(self.queue_id)
        await self._upload.write(self._trace_line() + chunk)

    def _trace_line(self) -> bytes:
        """Our Received line, made once."""
        if not self._trace:
            session, envelope = self._session, self._envelope
            hop = Hop(
                helo=session.host_name or "",
                peer_ip=session.peer_ip,
                hostname=self._port.hostname,
                queue_id=self.queue_id,
                extended=session.extended_smtp,
                smtputf8=envelope.smtp_utf8,
                tls=(session.tls.version, session.tls.cipher) if session.tls else None,
            )
            self._trace = received_line(hop, envelope.rcpt_tos, self._received_at)
        return self._trace

    def _trouble(self, error: Temporary) -> Reply:
        log.warning("message_deferred", queue_id=self.queue_id, reason=error.reason)
        return replies.SPOOL_FULL if isinstance(error, SpoolFull) else replies.SOME_FAILURE

    def _charge(self, held: int) -> None:
        leaves = self._upload is not None or self._failure is not None
        if not self._released and (held > self._charged or leaves):
            self._port.budget.charge(held - self._charged)
            self._charged = held

    def _release(self) -> None:
        self._port.budget.charge(-self._charged)
        self._charged = 0
        self._released = True  # a spill that is being cancelled may still come this way
