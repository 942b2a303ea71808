"""The transactional outbox (SPEC V3, docs/decisions/0003-outbox.md): a state change and its event are one write.

`append` puts the event into the transaction that changes the state. A relay in every service publishes what is
pending, with confirms, and marks it; it is woken after a commit (`kick`) and looks by itself every second, so that
whatever a dead process left is published by another. Any number of relays may run: a batch is claimed for a while
before it is published. An event may be published twice, never not at all.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog
from prometheus_client import Counter

from postern_common import telemetry
from postern_common.documents import Collections
from postern_common.envelope import Envelope
from postern_common.errors import Temporary
from postern_common.events import Event
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM, Mongo, Session

BATCH: Final = 100
CLAIM: Final = timedelta(seconds=15)
LOOK_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 30.0
# An unclaimed event is free since long ago, not since some "now": a writer's clock that is ahead must not delay it.
FREE: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)
_PUBLISHED = Counter("postern_common_outbox_published_total", "Events of the outbox that the broker confirmed.")


class Publisher(Protocol):
    """What the relay needs of the bus."""

    async def publish(self, envelopes: list[Envelope]) -> set[str]:
        """Publish; the ids that the broker confirmed."""


async def append(
    mongo: Mongo, session: Session, event: Event, *, service: str, cause: Envelope | None = None
) -> Envelope:
    """Put `event` into the outbox within the transaction of `session`."""
    return (await append_all(mongo, session, [event], service=service, cause=cause))[0]


async def append_all(
    mongo: Mongo, session: Session, events: Sequence[Event], *, service: str, cause: Envelope | None = None
) -> list[Envelope]:
    """Put the events of one transaction into the outbox in one write; there is at least one."""
    now, traceparent = mongo.clock.now(), telemetry.traceparent()
    envelopes = [Envelope.of(event, service=service, now=now, traceparent=traceparent, cause=cause) for event in events]
    waiting = [_waiting(event, envelope, now) for event, envelope in zip(events, envelopes, strict=True)]
    await mongo.collection(Collections.OUTBOX, PLATFORM).insert_many(waiting, session=session)
    return envelopes


def _waiting(event: Event, envelope: Envelope, now: datetime) -> dict[str, object]:
    return {
        "_id": envelope.id,
        "customer_id": event.customer_id,
        "name": event.name(),
        "envelope": envelope.to_document(),
        "state": "pending",
        "created_at": now,
        "claim": None,
        "claimed_until": FREE,
        "sent_at": None,
    }


class OutboxRelay:
    """Publishes pending events of the whole deployment, whoever wrote them."""

    def __init__(self, mongo: Mongo, publisher: Publisher) -> None:
        self._mongo = mongo
        self._outbox = mongo.collection(Collections.OUTBOX, PLATFORM)
        self._publisher = publisher
        self._wake = asyncio.Event()

    def kick(self) -> None:
        """Publish soon: something was committed."""
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled; back off while the database or the broker is away."""
        pause = LOOK_SECONDS
        while True:
            kicked = True
            try:
                async with asyncio.timeout(pause * random.uniform(0.75, 1.25)):
                    await self._wake.wait()
            except TimeoutError:
                kicked = False
            self._wake.clear()
            try:
                while await self.publish_batch():
                    pause = LOOK_SECONDS
            except Temporary as error:
                # A kick is no sign that waiting longer helps: a busy service must not drive the pause up by itself.
                pause = pause if kicked else min(pause * 2, MAX_PAUSE_SECONDS)
                log.warning("outbox_waits", reason=error.reason, pause_seconds=pause)
            else:
                pause = LOOK_SECONDS

    async def publish_batch(self) -> bool:
        """Claim, publish and mark one batch; True if there may be more. Raises `Temporary` if nothing was confirmed."""
        now = await self._mongo.server_time()
        waiting = {"state": "pending", "claimed_until": {"$lte": now}}
        found = await self._outbox.find(
            waiting, limit=BATCH, sort=[("claimed_until", 1), ("_id", 1)], projection={"_id": 1}
        )
        if not found:
            return False
        claim = new_id("evt")
        ids = [document["_id"] for document in found]
        await self._outbox.update_many(
            {**waiting, "_id": {"$in": ids}}, {"$set": {"claim": claim, "claimed_until": now + CLAIM}}
        )
        mine = await self._outbox.find({"_id": {"$in": ids}, "claim": claim}, limit=BATCH, sort=[("_id", 1)])
        if not mine:
            return True
        sent = await self._publish(mine, claim)
        if not sent:
            raise Temporary("the broker confirmed none of the outbox's events")
        return len(found) == BATCH

    async def _publish(self, documents: list[dict[str, object]], claim: str) -> set[str]:
        envelopes = [Envelope.model_validate(document["envelope"]) for document in documents]
        try:
            sent = await self._publisher.publish(envelopes)
        except Temporary:
            # Released at once, so that the event does not wait for the claim to lapse once the broker is back.
            ids = [envelope.id for envelope in envelopes]
            await self._outbox.update_many({"_id": {"$in": ids}, "claim": claim}, {"$set": {"claimed_until": FREE}})
            raise
        if sent:
            await self._outbox.update_many(
                {"_id": {"$in": sorted(sent)}},
                {"$set": {"state": "sent", "sent_at": self._mongo.clock.now(), "claim": None}},
            )
            _PUBLISHED.inc(len(sent))
        return sent
