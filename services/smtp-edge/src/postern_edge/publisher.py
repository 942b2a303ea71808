"""Publishes the events that are embedded in messages, after 250 was said (DESIGN 3, SPEC V3).

What this process wrote is published in batches, confirmed, and then taken out of the messages in one update. Whatever
is left, because a process died or the broker was away, is found by the sweeper of any edge once its grace has passed.
An event may be published twice, never not at all.
"""

import asyncio
from collections import deque
from typing import Any, Final, Protocol

import structlog
from prometheus_client import Counter

from postern_common.envelope import Envelope
from postern_common.errors import Temporary
from postern_common.polling import poll
from postern_edge.queue import Queue

BATCH: Final = 400
GATHER_SECONDS: Final = 0.2  # so that most messages have both of their events in one batch, and one update after it
MAX_WAITING: Final = 20_000
LONGEST_PAUSE_SECONDS: Final = 15.0

log = structlog.get_logger(__name__)
_PUBLISHED: Final = Counter(
    "postern_edge_events_published_total", "Events of messages that the broker confirmed.", ["by"]
)
_LEFT: Final = Counter("postern_edge_events_left_total", "Events left to the sweeper.")


class Bus(Protocol):
    """What is needed of the event bus."""

    async def publish(self, envelopes: list[Envelope]) -> set[str]:
        """Publish; the ids that the broker confirmed."""


class EventPublisher:
    """Publishes events of messages; `submit` never waits."""

    def __init__(self, queue: Queue, bus: Bus, poll_seconds: float) -> None:
        self._queue = queue
        self._bus = bus
        self._poll_seconds = poll_seconds
        self._waiting: deque[tuple[str, Envelope]] = deque()
        self._wake = asyncio.Event()
        self._busy = False

    def submit(self, message_id: str, events: list[Envelope]) -> None:
        """Publish soon; past a bound of what waits, leave it to the sweeper."""
        if len(self._waiting) >= MAX_WAITING:
            _LEFT.inc(len(events))
            return
        self._waiting.extend((message_id, event) for event in events)
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_own())
            group.create_task(self._sweep())

    async def drain(self) -> None:
        """Return when everything submitted is published or left to the sweepers."""
        while self._waiting or self._busy:
            self._wake.set()
            await asyncio.sleep(0.02)

    async def _publish_own(self) -> None:
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            if len(self._waiting) < BATCH:
                await asyncio.sleep(GATHER_SECONDS)
            self._busy = True
            try:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                await self._publish(batch, "writer")
            except Temporary as error:
                _LEFT.inc(len(self._waiting) + BATCH)
                log.warning("events_left_to_sweeper", reason=error.reason)
                self._waiting.clear()
            finally:
                self._busy = False

    async def _publish(self, batch: list[tuple[str, Envelope]], by: str) -> None:
        sent = await self._bus.publish([envelope for _, envelope in batch])
        if not sent:
            raise Temporary("the broker confirmed none of the events")
        _PUBLISHED.labels(by).inc(len(sent))
        messages = sorted({message_id for message_id, envelope in batch if envelope.id in sent})
        await self._queue.events_sent(messages, sorted(sent))

    async def _sweep(self) -> None:
        async def look() -> None:
            while await self.sweep_once():
                pass

        await poll(look, every=self._poll_seconds, longest=LONGEST_PAUSE_SECONDS, waits="event_sweep_waits")

    async def sweep_once(self) -> int:
        """Publish a batch of what others left behind; how many messages were looked at."""
        left = await self._queue.unsent()
        batch = [(message_id, envelope) for message_id, events in left for envelope in _parsed(message_id, events)]
        if batch:
            await self._publish(batch, "sweeper")
        elif left:
            await self._queue.events_sent([message_id for message_id, _ in left], [])
        return len(left)


def _parsed(message_id: str, events: list[dict[str, Any]]) -> list[Envelope]:
    parsed = []
    for event in events:
        try:
            parsed.append(Envelope.model_validate(event))
        except ValueError:
            log.error("stored_event_unreadable", message_id=message_id)
    return parsed
