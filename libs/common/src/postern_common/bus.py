"""The event bus: RabbitMQ by aio-pika, with confirms out and idempotent consumption in.

Publishing: persistent, confirmed, and `mandatory` where the catalogue names a consumer, so that an event without its
queue is an error and stays in the outbox. Consuming: a handler runs in one database transaction together with the mark
that its event was processed, so a repeated delivery does nothing. A failure that may pass is retried after growing
delays without end; a bug is retried a few times and then parked in the dead-letter queue with its reason; what can
never be processed is parked at once.

The connection is made anew by our own loop rather than by aio-pika's robust objects, which forget queues they no
longer hold (CASES 67): after each connect everything is declared again. A lost connection, a channel or consumer that
the broker closed, and an event that could be neither acknowledged nor moved all lead to a new connection.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, cast

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aiormq.channel import Channel as WireChannel
from pamqp import commands
from prometheus_client import Counter, Gauge

from postern_common import telemetry, topology
from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.envelope import CONTENT_TYPE, Envelope
from postern_common.errors import Rejected, Temporary
from postern_common.events import BY_TYPE, Event
from postern_common.mongo import PLATFORM, DuplicateKey, Mongo, Session
from postern_common.wire import Outgoing, publish_all

Handler = Callable[[Envelope, Session], Awaitable[None]]

MAX_BUG_ATTEMPTS: Final = 6
PERSISTENT: Final = int(aio_pika.DeliveryMode.PERSISTENT)
PREFETCH: Final = 16
CONNECT_SECONDS: Final = 5.0
CONFIRM_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
WATCH_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 30.0
FIRST_PAUSE_SECONDS: Final = 0.2
MAX_PAUSE_SECONDS: Final = 15.0

log = structlog.get_logger(__name__)
_CONSUMED = Counter(
    "postern_common_events_consumed_total", "Events taken from the queue.", ["event", "outcome"]
)  # outcome: processed | duplicate | retried | dead
_LAST_CONSUMED = Gauge("postern_common_last_event_timestamp_seconds", "When an event was last taken from the queue.")
_WAITING = Gauge("postern_common_events_waiting", "Events in this service's queue that no consumer has yet.")
_CONNECTED = Gauge("postern_common_broker_connected", "1 while connected to the broker and consuming.")


# What using a broken connection may raise. When a connection is closed, aiormq hands a bare `Exception` or a
# `CancelledError` to whoever waits on it, beside its own kinds; nothing of it says that the event was published.
_BROKEN: Final = (Exception, asyncio.CancelledError)


def _end_if_cancelled() -> None:
    """Go on with the cancellation of the running task itself, unlike with one that only reports a closed connection.

    It is also asked where nothing was raised: `asyncio.wait_for`, which aiormq uses, swallows a cancellation that
    arrives together with its result (until Python 3.12).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class AlreadyProcessed(Exception):
    """The event was processed by an earlier delivery."""


class Bus:
    """One service's connection to the broker. `handlers` maps an event's class to what processes it; may be empty."""

    def __init__(
        self, url: str, service: str, mongo: Mongo, handlers: Mapping[type[Event], Handler] | None = None
    ) -> None:
        self._url = url
        self._service = service
        self._mongo = mongo
        self._handlers = dict(handlers or {})
        self._channel: WireChannel | None = None
        self._retries: AbstractExchange | None = None
        self._connection: AbstractConnection | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._consumers: list[tuple[aio_pika.abc.AbstractQueue, str]] = []
        self._lost = asyncio.Event()
        self._draining = False
        self._closing: set[asyncio.Task[None]] = set()
        unhandled = set(topology.consumed_by(service)) ^ {kind.name() for kind in self._handlers}
        if unhandled:
            raise ValueError(f"{service}: handlers and catalogue differ in {sorted(unhandled)}")

    @property
    def clock(self) -> Clock:
        """The clock of the database that this bus works with."""
        return self._mongo.clock

    @property
    def ready(self) -> bool:
        """True while connected, declared and consuming."""
        return self._channel is not None

    async def check(self) -> None:
        """For `/readyz`: raise `Temporary` unless ready."""
        if not self.ready:
            raise Temporary("not connected to the broker")

    # -- connection ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                try:
                    await self._connect()
                    await self._watch()
                except _BROKEN as error:
                    _end_if_cancelled()
                    log.warning("broker_connection_lost", error=type(error).__name__)
                finally:
                    await self._disconnect()
                _end_if_cancelled()
                # A connection that never lasts must not be made many times a second: each one delivers events again.
                if loop.time() - began > STEADY_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
        finally:
            await self._disconnect()

    async def _connect(self) -> None:
        lost = self._lost = asyncio.Event()
        self._connection = await aio_pika.connect(
            self._url, timeout=CONNECT_SECONDS, client_properties={"connection_name": self._service}
        )
        # `connection.closed()` only tells of our own close; a lost connection is told to the callbacks.
        self._connection.close_callbacks.add(lambda *_: lost.set())
        async with asyncio.timeout(CONFIRM_SECONDS):
            # A returned message must be an error: by default it is silently the result (on_return_raises=False).
            channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            channel.close_callbacks.add(lambda *_: lost.set())
            await channel.declare_exchange(topology.EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
            for queue in topology.all_queues():
                await self._declare(channel, queue)
            self._retries = channel.default_exchange
            if self._handlers and not self._draining:
                await self._consume(self._connection, lost)
            publishing = cast(WireChannel, await channel.get_underlay_channel())
        self._channel = publishing
        _CONNECTED.set(1)
        log.info("broker_connected", consumes=[kind.name() for kind in self._handlers])

    @staticmethod
    async def _declare(channel: AbstractChannel, queue: topology.Queue) -> None:
        declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        for key in queue.bindings:
            await declared.bind(topology.EXCHANGE, key)

    async def _consume(self, connection: AbstractConnection, lost: asyncio.Event) -> None:
        channel = await connection.channel()
        channel.close_callbacks.add(lambda *_: lost.set())
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(lambda _frame: lost.set())
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(topology.main_queue(self._service), ensure=False)
        tag = await queue.consume(partial(self._receive, lost))
        self._consumers = [(queue, tag)]

    async def _watch(self) -> None:
        """Return when the connection, a channel or our consumer is gone, told of it or not."""
        connection, lost = self._connection, self._lost
        assert connection is not None  # noqa: S101 - set by _connect
        while not lost.is_set():
            try:
                async with asyncio.timeout(WATCH_SECONDS):
                    await lost.wait()
            except TimeoutError:
                if not await self._is_whole(connection):
                    break
                _end_if_cancelled()
        log.warning("broker_connection_lost", error="closed")

    async def _is_whole(self, connection: AbstractConnection) -> bool:
        """Whether the broker answers on this connection, and still knows a consumer of our queue."""
        async with asyncio.timeout(CONFIRM_SECONDS):
            channel = await connection.channel()
            try:
                if not self._consumers:
                    return True
                queue = await channel.declare_queue(topology.main_queue(self._service), passive=True)
                _WAITING.set(queue.declaration_result.message_count or 0)
                return bool(queue.declaration_result.consumer_count) or self._draining
            finally:
                await channel.close()

    async def _disconnect(self) -> None:
        _CONNECTED.set(0)
        self._channel = self._retries = None
        self._consumers = []
        connection, self._connection = self._connection, None
        if connection is not None:
            # In a task of its own that nobody waits for longer: closing a broken connection may not end, not even when
            # it is cancelled.
            closing = asyncio.create_task(connection.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closed)
            if not (await asyncio.wait({closing}, timeout=CLOSE_SECONDS))[0]:
                closing.cancel()

    def _closed(self, closing: asyncio.Task[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            log.debug("broker_close_failed", error=type(error).__name__)

    async def drain(self) -> None:
        """Take no more events, also after a new connection, and wait for those under way to be acknowledged."""
        self._draining = True
        for queue, tag in self._consumers:
            try:
                async with asyncio.timeout(CONFIRM_SECONDS):
                    await queue.cancel(tag)
            except _BROKEN as error:
                _end_if_cancelled()
                log.debug("broker_cancel_failed", error=type(error).__name__)
        self._consumers = []
        while self._under_way:
            await asyncio.wait(set(self._under_way))

    # -- publishing ---------------------------------------------------------------------------------------------------

    async def publish(self, envelopes: list[Envelope]) -> set[str]:
        """Publish; return the ids that the broker confirmed. Raises `Temporary` if there is no connection."""
        channel = self._channel
        if channel is None:
            raise Temporary("not connected to the broker")
        if not envelopes:
            return set()
        try:
            faults = await publish_all(
                channel, topology.EXCHANGE, [_outgoing(one) for one in envelopes], CONFIRM_SECONDS
            )
        except _BROKEN as error:
            _end_if_cancelled()
            log.warning("events_not_published", events=len(envelopes), error=type(error).__name__)
            return set()
        # A negative acknowledgement and a returned message are both faults (CASES 69).
        for envelope, fault in zip(envelopes, faults, strict=True):
            if fault is not None:
                log.warning(
                    "event_not_published", event_id=envelope.id, event_name=envelope.name, error=type(fault).__name__
                )
        return {envelope.id for envelope, fault in zip(envelopes, faults, strict=True) if fault is None}

    # -- consuming ----------------------------------------------------------------------------------------------------

    async def _receive(self, lost: asyncio.Event, message: AbstractIncomingMessage) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - aio-pika runs each callback in a task
        self._under_way.add(task)
        try:
            await self._settle(message)
        except _BROKEN as error:
            _end_if_cancelled()
            # Neither acknowledged nor moved: the broker delivers it again on a new connection, which also declares what
            # may be missing. Left on this one it would be held without end, and soon no other would be delivered.
            log.warning("event_not_settled", error=type(error).__name__)
            lost.set()
        finally:
            self._under_way.discard(task)

    async def _settle(self, message: AbstractIncomingMessage) -> None:
        _LAST_CONSUMED.set_to_current_time()
        name = message.routing_key or ""
        try:
            envelope = Envelope.parse(message.body)
            name = envelope.name
            with (
                telemetry.traced(envelope.traceparent),
                telemetry.bind(event_id=envelope.id, customer_id=envelope.customer_id),
            ):
                outcome = await self._process(envelope, message)
        except Rejected as error:
            await self._park(message, f"{error.code}: {error.message}")
            outcome = "dead"
        kind = BY_TYPE.get(f"com.postern.{name}.v1")
        _CONSUMED.labels(event=kind.name() if kind else "unknown", outcome=outcome).inc()

    async def _process(self, envelope: Envelope, message: AbstractIncomingMessage) -> str:
        handler = self._handlers.get(type(envelope.event()))
        if handler is None:
            raise Rejected("no-handler", f"{self._service} has no handler for {envelope.type[:100]}")
        try:
            await self._mongo.transact(lambda session: self._once(handler, envelope, session))
        except AlreadyProcessed:
            await message.ack()
            return "duplicate"
        except Temporary as error:
            log.warning("event_deferred", event_name=envelope.name, reason=error.reason)
            await self._retry(message, f"temporary: {error.reason}")
            return "retried"
        except Rejected:
            raise
        except Exception as error:  # the loop's edge: a bug must not stop the consumer
            log.exception("event_failed", event_name=envelope.name)
            if _attempt(message) >= MAX_BUG_ATTEMPTS:
                await self._park(message, f"bug: {type(error).__name__}")
                return "dead"
            await self._retry(message, f"bug: {type(error).__name__}")
            return "retried"
        await message.ack()
        log.info("event_processed", event_name=envelope.name)
        return "processed"

    async def _once(self, handler: Handler, envelope: Envelope, session: Session) -> None:
        """Mark and handle in one transaction; a mark that is there already means that another delivery did it."""
        marks = self._mongo.collection(Collections.PROCESSED_EVENTS, PLATFORM)
        key = f"{self._service}:{envelope.id}"
        if await marks.find_one({"_id": key}, session=session):
            raise AlreadyProcessed
        try:
            await marks.insert_one({"_id": key, "at": self._mongo.clock.now()}, session=session)
        except DuplicateKey as error:
            raise AlreadyProcessed from error
        await handler(envelope, session)

    async def _retry(self, message: AbstractIncomingMessage, reason: str) -> None:
        attempt = _attempt(message)
        await self._move(message, topology.retry_queue(self._service, attempt), reason, attempt + 1)

    async def _park(self, message: AbstractIncomingMessage, reason: str) -> None:
        log.error("event_parked", reason=reason, routing_key=message.routing_key)
        await self._move(message, topology.dead_queue(self._service), reason, _attempt(message))

    async def _move(self, message: AbstractIncomingMessage, queue: str, reason: str, attempt: int) -> None:
        """Put a copy into `queue`, confirmed, and only then acknowledge the original."""
        target = self._retries
        if target is None:
            raise ConnectionError("not connected to the broker")
        headers = {**message.headers, topology.REASON_HEADER: reason[:500], topology.ATTEMPT_HEADER: attempt}
        copy = aio_pika.Message(
            message.body,
            headers=headers,
            content_type=message.content_type,
            message_id=message.message_id,
            type=message.type,
            app_id=message.app_id,
            timestamp=message.timestamp,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await target.publish(copy, queue, mandatory=True, timeout=CONFIRM_SECONDS)
        await message.ack()


def _attempt(message: AbstractIncomingMessage) -> int:
    value = message.headers.get(topology.ATTEMPT_HEADER, 1)
    return value if isinstance(value, int) and value > 0 else 1


def _outgoing(envelope: Envelope) -> Outgoing:
    kind = BY_TYPE.get(envelope.type)
    properties = commands.Basic.Properties(
        content_type=CONTENT_TYPE,
        delivery_mode=PERSISTENT,
        message_id=envelope.id,
        message_type=envelope.type,
        timestamp=envelope.time,
        app_id=envelope.source,
    )
    return Outgoing(envelope.to_json(), envelope.name, properties, mandatory=bool(kind and kind.consumers))
