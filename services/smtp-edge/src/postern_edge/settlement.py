"""What follows an attempt: the result, the events, the trace and the notifications, written together.

A result is written until the database takes it, since the next hop has the message by then. Where the account of it
fails by a bug, the recipients' states are written alone: what was delivered must not be delivered again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter

from postern_common.errors import Temporary
from postern_edge.bodies.store import INLINE_BYTES, BodyStore
from postern_edge.directory_index import Directory
from postern_edge.discoveries import Discoveries
from postern_edge.messages import Entry, Terms
from postern_edge.outbound.account import events_of, steps_of
from postern_edge.outbound.notices import Notices, wanted
from postern_edge.outbound.parcels import content_head
from postern_edge.outbound.store import NoticeStore
from postern_edge.publisher import EventPublisher
from postern_edge.queue import Queue, Result
from postern_edge.rules.conclusion import Conclusion, Tried, conclude
from postern_edge.rules.dsn import Action
from postern_edge.rules.orders import is_dropped

LONGEST_PAUSE_SECONDS: Final = 15.0

T = TypeVar("T")
log = structlog.get_logger(__name__)
_OUTCOMES: Final = Counter("postern_edge_recipients_total", "Recipients by outcome of an attempt.", ["outcome"])
_NOTICES: Final = Counter("postern_edge_notices_total", "Notifications by kind.", ["kind"])  # failed … | suppressed


@dataclass(frozen=True, slots=True)
class Settled:
    """What an attempt left behind: notifications to deliver, and whether the message is done."""

    notices: list[Entry]
    done: bool


class Settlement:
    """Writes what attempts came to."""

    def __init__(
        self,
        queue: Queue,
        bodies: BodyStore,
        directory: Directory,
        notices: Notices,
        notice_store: NoticeStore,
        publisher: EventPublisher,
        discoveries: Discoveries,
        first_retry: timedelta,
    ) -> None:
        self._queue = queue
        self._bodies = bodies
        self._directory = directory
        self._notices = notices
        self._notice_store = notice_store
        self._publisher = publisher
        self._discoveries = discoveries
        self._first_retry = first_retry

    async def settle(self, entry: Entry, tried: Sequence[Tried], terms: Callable[[], Terms]) -> Settled:
        """Write the result of an attempt with all that follows; `terms` are those of notifications."""
        message, now = entry.document, self._queue.time.now()
        conclusion = self._conclude(entry, tried)
        notices, actions = await self._build_notices(entry, conclusion, terms)
        events = events_of(message, conclusion, now, dsn_sent=Action.FAILED in actions)
        result = Result(
            entry.message_id,
            message["version"],
            conclusion.changes,
            conclusion.due_at,
            steps_of(message, conclusion, now, actions),
            [event.to_document() for event in events],
            self._directory.index.trace_kept(message["customer_id"]),
        )
        await self._record(result, notices)
        for change in conclusion.changes:
            _OUTCOMES.labels(change.state.value).inc()
        self._discoveries.note(message, conclusion.changes, now)
        if result.written:
            self._publisher.submit(entry.message_id, events)
        return Settled(notices, conclusion.done and not result.left_open)

    async def settle_barely(self, entry: Entry, tried: Sequence[Tried]) -> None:
        """Write the recipients' states alone."""
        conclusion = self._conclude(entry, tried)
        bare = Result(entry.message_id, entry.document["version"], conclusion.changes, conclusion.due_at, [])
        await _until_taken(lambda: self._queue.merge(bare))

    def _conclude(self, entry: Entry, tried: Sequence[Tried]) -> Conclusion:
        now, draw = self._queue.time.now(), random.random()
        concluded = conclude(entry.document, tried, now=now, first_retry=self._first_retry, draw=draw)
        if is_dropped(entry.document):
            concluded.failed.clear()
        return concluded

    async def _build_notices(
        self, entry: Entry, conclusion: Conclusion, terms: Callable[[], Terms]
    ) -> tuple[list[Entry], set[Action]]:
        message = entry.document

        async def original() -> bytes:
            if message["size"] <= INLINE_BYTES:
                return entry.body if entry.body is not None else await self._bodies.read(message)
            return await content_head(entry, self._bodies)

        notices, actions = [], set()
        for action, told in wanted(conclusion):
            if not await self._permitted(message["sender_key"]):
                _NOTICES.labels("suppressed").inc()
                continue
            notices.append(await self._notices.build(message, action, told, original, terms()))
            actions.add(action)
            _NOTICES.labels(action.value).inc()
        return notices, actions

    async def _permitted(self, sender_key: str) -> bool:
        return bool(await _until_taken(lambda: self._notice_store.permits(sender_key, self._queue.time.now())))

    async def _record(self, result: Result, notices: list[Entry]) -> None:
        """Write the result, however long the database is away: the next hop has the message by now."""
        if not notices:
            await _until_taken(lambda: self._queue.record(result))
        elif not await _until_taken(lambda: self._notice_store.record(result, notices)):
            # The lease was lost: whoever has the message now tells the sender.
            notices.clear()
            await _until_taken(lambda: self._queue.merge(result))


async def _until_taken(write: Callable[[], Awaitable[T]]) -> T:
    pause = 0.1
    while True:
        try:
            return await write()
        except Temporary as error:
            log.warning("result_repeated", reason=error.reason)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
