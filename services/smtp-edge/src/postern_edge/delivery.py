"""Delivers what is in the queue: the first attempt at once in the process that accepted, later ones by claim (DESIGN
11).

Every message under way here is held by a lease that is extended while it is; a message is let go when its result is
written. A result is written until the database takes it, since the next hop has the message by then. Failures that
nobody foresaw count as deferrals: they are logged, tried again by the schedule, and end in a bounce after five days
like any other.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from postern_common.errors import Temporary
from postern_edge.bodies.store import INLINE_BYTES, BodyStore
from postern_edge.budget import ByteBudget
from postern_edge.directory_index import Directory
from postern_edge.messages import Entry, Lease
from postern_edge.outbound.account import events_of, steps_of
from postern_edge.outbound.attempt import attempt
from postern_edge.outbound.notices import Notices, wanted
from postern_edge.outbound.parcels import addressee, content_head, parcel_of
from postern_edge.outbound.router import Router
from postern_edge.outbound.servers import Servers
from postern_edge.outbound.store import NoticeStore
from postern_edge.outbound.transaction import Parcel
from postern_edge.publisher import EventPublisher
from postern_edge.queue import Queue, Result
from postern_edge.rules.classify import Answer, Stage
from postern_edge.rules.conclusion import OPEN_STATES, Conclusion, Tried, conclude
from postern_edge.rules.dsn import Action
from postern_edge.rules.route import Server

CLAIM_BATCH: Final = 200
MAX_UNDER_WAY: Final = 10_000
MAX_IN_LINE: Final = 3000  # for one server; past it a message goes back to the queue for some seconds
DUE_SLACK: Final = timedelta(seconds=1)
LONGEST_PAUSE_SECONDS: Final = 15.0
SWEEP_SECONDS: Final = 1800.0
DEPTH_SECONDS: Final = 15.0
SETTLE_SECONDS: Final = 5.0  # how long a stopping process waits for results that are being written
UNFORESEEN: Final = Answer(Stage.ROUTE, 0, "an internal error; it will be tried again")

T = TypeVar("T")
log = structlog.get_logger(__name__)
_UNDER_WAY: Final = Gauge("postern_edge_deliveries_under_way", "Messages that this process holds.")
_DEPTH: Final = Gauge("postern_edge_queue_messages", "Messages that wait in the whole queue, up to 100,000.")
_OUTCOMES: Final = Counter("postern_edge_recipients_total", "Recipients by outcome of an attempt.", ["outcome"])
_NOTICES: Final = Counter("postern_edge_notices_total", "Notifications by kind.", ["kind"])  # failed … | suppressed
_BUGS: Final = Counter("postern_edge_delivery_errors_total", "Attempts that ended by an unforeseen error.")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are looked for and tried."""

    poll_seconds: float = 1.0
    first_retry: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Seams:
    """What delivery works with."""

    queue: Queue
    bodies: BodyStore
    directory: Directory
    servers: Servers
    router: Router
    notices: Notices
    notice_store: NoticeStore
    publisher: EventPublisher
    budget: ByteBudget


class Delivery:
    """The deliveries of one process."""

    def __init__(self, seams: Seams, pace: Pace) -> None:
        self._queue = seams.queue
        self._bodies = seams.bodies
        self._directory = seams.directory
        self._servers = seams.servers
        self._router = seams.router
        self._notices = seams.notices
        self._notice_store = seams.notice_store
        self._publisher = seams.publisher
        self._budget = seams.budget
        self._pace = pace
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._settling: set[str] = set()
        self._emptied: list[str] = []
        self._draining = False

    # -- taking over --------------------------------------------------------------------------------------------------

    def lease(self) -> Lease:
        """The lease of a message that is about to be stored: ours while there is room here."""
        if self._draining or len(self._under_way) >= MAX_UNDER_WAY:
            return Lease(None, None)
        return Lease(self._queue.owner, self._queue.time.now() + self._queue.lease)

    def accepted(self, entry: Entry) -> None:
        """Take over a message that was just stored: publish its event, try it if it is ours."""
        self._publisher.submit(entry.message_id, entry.events)
        until = entry.document["lease_until"]
        if until is None or self._draining or until - self._queue.time.now() < self._queue.lease / 3:
            return  # whoever claims it will do
        if self._budget.is_tight:
            entry.body = None  # it is in the store
        self._begin(entry)

    def _begin(self, entry: Entry) -> None:
        held = len(entry.body or b"")
        self._budget.charge(held)
        task = asyncio.get_running_loop().create_task(self._deliver(entry))
        self._under_way[entry.message_id] = task
        _UNDER_WAY.set(len(self._under_way))

        def ended(_task: asyncio.Task[None]) -> None:
            self._budget.charge(-held)
            self._under_way.pop(entry.message_id, None)
            _UNDER_WAY.set(len(self._under_way))

        task.add_done_callback(ended)

    async def run(self) -> None:
        """Claim, extend leases and clear away until cancelled."""
        async with asyncio.TaskGroup() as group:
            for work in (self._claims, self._leases, self._clear_away, self._sweeps, self._depth, self._servers.run):
                group.create_task(work())

    async def drain(self, seconds: float) -> None:
        """Claim no more; let what is under way end within `seconds`, then give the rest back to the queue."""
        self._draining = True
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()), timeout=seconds)
        left = [message_id for message_id in self._under_way if message_id not in self._settling]
        for message_id in left:
            self._under_way[message_id].cancel()
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()), timeout=SETTLE_SECONDS)
        if left:
            log.info("deliveries_given_back", messages=len(left))
            await self._queue.release(left)
        await self._remove_emptied()
        await self._servers.close()

    async def _claims(self) -> None:
        pause = self._pace.poll_seconds
        while True:
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            try:
                while await self._claim():
                    pass
                pause = self._pace.poll_seconds
            except Temporary as error:
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                log.warning("claims_wait", reason=error.reason, pause_seconds=pause)

    async def _claim(self) -> bool:
        room = min(CLAIM_BATCH, MAX_UNDER_WAY - len(self._under_way))
        if self._draining or not self._directory.loaded or room <= 0:
            return False
        claimed = await self._queue.claim(room, self._under_way)
        for message in claimed:
            if message["_id"] not in self._under_way:
                self._begin(Entry(message, None))
        return len(claimed) == CLAIM_BATCH

    async def _leases(self) -> None:
        while True:
            await asyncio.sleep(self._queue.lease.total_seconds() / 3)
            try:
                await self._queue.extend(list(self._under_way))
            except Temporary as error:
                log.warning("leases_not_extended", reason=error.reason)

    # -- one message --------------------------------------------------------------------------------------------------

    async def _deliver(self, entry: Entry) -> None:
        due = self._due(entry.document)
        try:
            tried = await self._try(entry, due)
        except Temporary as error:
            log.warning("attempt_put_off", message_id=entry.message_id, reason=error.reason)
            await self._put_back(entry)
            return
        except Exception:
            _BUGS.inc()
            log.exception("attempt_failed", message_id=entry.message_id)
            tried = [Tried(index, UNFORESEEN, "") for index in due]
        if tried is None:
            await self._put_back(entry)
            return
        self._settling.add(entry.message_id)
        try:
            await self._settle(entry, tried)
        except Exception:
            _BUGS.inc()
            log.exception("result_incomplete", message_id=entry.message_id)
            await self._settle_barely(entry, tried)
        finally:
            self._settling.discard(entry.message_id)

    def _due(self, message: Mapping[str, Any]) -> list[int]:
        """The recipients whose turn it is, by their places."""
        now = self._queue.time.now() + DUE_SLACK
        return [
            index
            for index, recipient in enumerate(message["recipients"])
            if recipient["state"] in OPEN_STATES and (recipient["next_attempt_at"] or now) <= now
        ]

    async def _try(self, entry: Entry, due: list[int]) -> list[Tried] | None:
        """One attempt for all due recipients, by their routes; None when a line is too long to stand in."""
        routes: dict[tuple[Server, ...], list[int]] = {}
        tried: list[Tried] = []
        for index in due:
            route = await self._router.route(entry.document, entry.document["recipients"][index])
            if route.answer is not None:
                tried.append(Tried(index, route.answer, ""))
            else:
                routes.setdefault(route.servers, []).append(index)
        if any(servers and min(map(self._servers.waiting, servers)) > MAX_IN_LINE for servers in routes):
            return None

        async def parcel() -> Parcel:
            return await parcel_of(entry, self._bodies)

        for servers, places in routes.items():
            recipients = [(index, addressee(entry, index)) for index in places]
            tried += await attempt(self._servers, servers, parcel, recipients)
        return tried

    async def _put_back(self, entry: Entry) -> None:
        later = self._queue.time.now() + timedelta(seconds=random.uniform(2, 6))
        try:
            await self._queue.release([entry.message_id], later)
        except Temporary as error:
            log.info("lease_not_released", message_id=entry.message_id, reason=error.reason)  # it lapses

    # -- what follows -------------------------------------------------------------------------------------------------

    async def _settle(self, entry: Entry, tried: Sequence[Tried]) -> None:
        message, now = entry.document, self._queue.time.now()
        conclusion = conclude(message, tried, now=now, first_retry=self._pace.first_retry, draw=random.random())
        notices, actions = await self._build_notices(entry, conclusion, now)
        events = events_of(message, conclusion, now, dsn_sent=Action.FAILED in actions)
        result = Result(
            entry.message_id,
            message["version"],
            conclusion.changes,
            conclusion.due_at,
            steps_of(message, conclusion, now, actions),
            [event.to_document() for event in events],
        )
        await self._record(result, notices)
        for change in conclusion.changes:
            _OUTCOMES.labels(change.state.value).inc()
        self._publisher.submit(entry.message_id, events)
        for notice in notices:
            self.accepted(notice)
        if conclusion.done and message["body"] is not None:
            self._emptied.append(entry.message_id)

    async def _settle_barely(self, entry: Entry, tried: Sequence[Tried]) -> None:
        """Write the recipients' states alone: a message that was delivered must not be delivered again."""
        now = self._queue.time.now()
        conclusion = conclude(entry.document, tried, now=now, first_retry=self._pace.first_retry, draw=random.random())
        bare = Result(entry.message_id, entry.document["version"], conclusion.changes, conclusion.due_at, [])
        await self._until_taken(lambda: self._queue.merge(bare))

    async def _build_notices(
        self, entry: Entry, conclusion: Conclusion, now: datetime
    ) -> tuple[list[Entry], set[Action]]:
        message = entry.document

        async def original() -> bytes:
            if message["size"] <= INLINE_BYTES:
                return entry.body if entry.body is not None else await self._bodies.read(entry.message_id)
            return await content_head(entry, self._bodies)

        notices, actions = [], set()
        for action, told in wanted(conclusion):
            if not await self._permitted(message["sender_key"], now):
                _NOTICES.labels("suppressed").inc()
                continue
            notices.append(await self._notices.build(message, action, told, original, now, self.lease()))
            actions.add(action)
            _NOTICES.labels(action.value).inc()
        return notices, actions

    async def _permitted(self, sender_key: str, now: datetime) -> bool:
        return bool(await self._until_taken(lambda: self._notice_store.permits(sender_key, now)))

    async def _record(self, result: Result, notices: list[Entry]) -> None:
        """Write the result, however long the database is away: the next hop has the message by now."""
        if not notices:
            await self._until_taken(lambda: self._queue.record(result))
        elif not await self._until_taken(lambda: self._notice_store.record(result, notices)):
            # The lease was lost: whoever has the message now tells the sender.
            notices.clear()
            await self._until_taken(lambda: self._queue.merge(result))

    @staticmethod
    async def _until_taken(write: Callable[[], Awaitable[T]]) -> T:
        pause = 0.1
        while True:
            try:
                return await write()
            except Temporary as error:
                log.warning("result_repeated", reason=error.reason)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _clear_away(self) -> None:
        """Remove the bodies of messages that are done, in batches."""
        while True:
            await asyncio.sleep(0.25)
            try:
                await self._remove_emptied()
            except Temporary as error:
                log.info("bodies_left_to_sweeper", reason=error.reason)

    async def _remove_emptied(self) -> None:
        while self._emptied:
            batch, self._emptied = self._emptied[:500], self._emptied[500:]
            await self._bodies.remove(batch)

    async def _depth(self) -> None:
        while True:
            try:
                _DEPTH.set(await self._queue.depth())
            except Temporary as error:
                log.info("queue_not_counted", reason=error.reason)
            await asyncio.sleep(DEPTH_SECONDS * random.uniform(0.75, 1.25))

    async def _sweeps(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS * random.uniform(0.5, 1.5))
            try:
                removed = await self._bodies.sweep()
            except Temporary as error:
                log.info("body_sweep_failed", reason=error.reason)
            else:
                if removed:
                    log.warning("bodies_swept", bodies=removed)
