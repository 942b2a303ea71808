"""Delivers what is in the queue: the first attempt at once in the process that accepted, later ones by claim (DESIGN
11).

Every message under way here is held by a lease that is extended while it is; a message is let go when its result is
written (`settlement.py`). What one server took is never forgotten because something else failed afterwards. Failures
that nobody foresaw count as deferrals: they are logged, tried again by the schedule, and end in a bounce after five
days like any other. A process with `capacity` 0 delivers nothing: what it takes is left to others, due at once.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge

from postern_common.errors import Temporary
from postern_common.polling import poll
from postern_edge.bodies.store import BodyStore
from postern_edge.budget import ByteBudget
from postern_edge.directory_index import Directory
from postern_edge.leases import Leases
from postern_edge.messages import Entry, Lease, Terms
from postern_edge.outbound.attempt import attempt
from postern_edge.outbound.parcels import addressee, parcel_of
from postern_edge.outbound.router import Router
from postern_edge.outbound.servers import ForCustomer, Servers
from postern_edge.outbound.transaction import Parcel
from postern_edge.publisher import EventPublisher
from postern_edge.queue import Queue
from postern_edge.rules.classify import Answer, Stage
from postern_edge.rules.conclusion import OPEN_STATES, Tried
from postern_edge.rules.orders import ordered
from postern_edge.rules.route import Server
from postern_edge.settlement import LONGEST_PAUSE_SECONDS, Settlement

CLAIM_BATCH: Final = 200
MAX_UNDER_WAY: Final = 10_000
MAX_IN_LINE: Final = 3000  # for one server; past it a message goes back to the queue for some seconds
DUE_SLACK: Final = timedelta(seconds=1)
SWEEP_SECONDS: Final = 1800.0
DEPTH_SECONDS: Final = 15.0
SETTLE_SHARE: Final = 0.2  # of the time for draining, for results that are being written
UNFORESEEN: Final = Answer(Stage.ROUTE, 0, "an internal error; it will be tried again")

log = structlog.get_logger(__name__)
_UNDER_WAY: Final = Gauge("postern_edge_deliveries_under_way", "Messages that this process holds.")
_DEPTH: Final = Gauge("postern_edge_queue_messages", "Messages that wait in the whole queue, up to 100,000.")
_BUGS: Final = Counter("postern_edge_delivery_errors_total", "Attempts that ended by an unforeseen error.")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often due messages are looked for, how long each is tried, and how many go out at one time (0: none)."""

    poll_seconds: float = 1.0
    lifetime: timedelta = timedelta(days=5)
    capacity: int = 200


@dataclass(frozen=True, slots=True)
class Seams:
    """What delivery works with."""

    queue: Queue
    bodies: BodyStore
    directory: Directory
    servers: Servers
    router: Router
    settlement: Settlement
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
        self._settlement = seams.settlement
        self._publisher = seams.publisher
        self._budget = seams.budget
        self._pace = pace
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._settling: set[str] = set()
        self._emptied: list[str] = []
        self._unwanted: list[str] = []
        self._leases = Leases(seams.queue, lambda: self._under_way)
        self._draining = False

    # -- taking over --------------------------------------------------------------------------------------------------

    def terms(self) -> Terms:
        """What a message that is about to be stored begins with; its lease is ours while there is room here."""
        now = self._queue.time.now()
        lease = Lease(None, None)
        if self._pace.capacity and not self._draining and len(self._under_way) < MAX_UNDER_WAY:
            lease = Lease(self._queue.owner, now + self._queue.lease)
        return Terms(now, lease, self._pace.lifetime)

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
        sure = entry.document["lease_until"] - self._queue.time.now()
        self._leases.begin(entry.message_id, sure.total_seconds())
        task = asyncio.get_running_loop().create_task(self._deliver(entry))
        self._under_way[entry.message_id] = task
        _UNDER_WAY.set(len(self._under_way))

        def ended(_task: asyncio.Task[None]) -> None:
            self._budget.charge(-held)
            self._under_way.pop(entry.message_id, None)
            self._leases.end(entry.message_id)
            _UNDER_WAY.set(len(self._under_way))

        task.add_done_callback(ended)

    async def run(self) -> None:
        """Claim, extend leases and clear away until cancelled."""
        async with asyncio.TaskGroup() as group:
            for work in (
                self._claims,
                self._leases.run,
                self._clear_away,
                self._sweeps,
                self._look,
                self._servers.run,
            ):
                group.create_task(work())

    async def drain(self, seconds: float) -> None:
        """Claim no more; let what is under way end within `seconds`, then give the rest back to the queue."""
        self._draining = True
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()), timeout=seconds * (1 - SETTLE_SHARE))
        left = [message_id for message_id in self._under_way if message_id not in self._settling]
        for message_id in left:
            self._under_way[message_id].cancel()
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()), timeout=seconds * SETTLE_SHARE)
        left = [message_id for message_id in left if message_id not in self._settling]
        left += self._unwanted
        self._unwanted = []
        if left:
            log.info("deliveries_given_back", messages=len(left))
            await self._queue.release(left)
        await self._remove_emptied()
        await self._servers.close()

    async def _claims(self) -> None:
        async def look() -> None:
            while await self._claim():
                pass

        await poll(look, every=self._pace.poll_seconds, longest=LONGEST_PAUSE_SECONDS, waits="claims_wait")

    def _room(self) -> int:
        if self._draining or not self._pace.capacity:
            return 0
        return min(CLAIM_BATCH, MAX_UNDER_WAY - len(self._under_way))

    async def _claim(self) -> bool:
        room = self._room() if self._directory.loaded else 0
        if room <= 0:
            return False
        claimed = await self._queue.claim(room, self._under_way)
        if self._draining:  # it began to stop while it asked
            await self._queue.release([message["_id"] for message in claimed])
            return False
        for message in claimed:
            if message["_id"] not in self._under_way:
                self._begin(Entry(message, None))
        return len(claimed) == CLAIM_BATCH

    # -- one message --------------------------------------------------------------------------------------------------

    async def _deliver(self, entry: Entry) -> None:
        due = self._due(entry.document)
        try:
            tried = ordered(entry.document) or await self._try(entry, due)
        except Temporary as error:
            log.warning("attempt_put_off", message_id=entry.message_id, reason=error.reason)
            await self._put_back(entry.message_id)
            return
        except Exception:
            _BUGS.inc()
            log.exception("attempt_failed", message_id=entry.message_id)
            tried = [Tried(index, UNFORESEEN, "") for index in due]
        if tried is None:
            self._unwanted.append(entry.message_id)
            return
        self._settling.add(entry.message_id)
        try:
            await self._settle(entry, tried)
        except Exception:
            _BUGS.inc()
            log.exception("result_incomplete", message_id=entry.message_id)
            await self._settlement.settle_barely(entry, tried)
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
            given = await parcel_of(entry, self._bodies)
            self._leases.check(entry.message_id)
            return given

        lent = ForCustomer(self._servers, entry.document["customer_id"])
        for servers, places in routes.items():
            recipients = [(index, addressee(entry, index)) for index in places]
            try:
                tried += await attempt(lent, servers, parcel, recipients)
            except (Exception, asyncio.CancelledError) as error:
                # Forgetting what other servers took would deliver it twice. Recipients without a result stay due.
                if not tried:
                    raise
                log.warning("attempt_broken_off", message_id=entry.message_id, error=type(error).__name__)
                break
        return tried

    async def _settle(self, entry: Entry, tried: list[Tried]) -> None:
        settled = await self._settlement.settle(entry, tried, self.terms)
        for notice in settled.notices:
            self.accepted(notice)
        if settled.done and entry.document["body"] != "message":
            self._emptied.append(entry.message_id)

    async def _put_back(self, *message_ids: str) -> None:
        later = self._queue.time.now() + timedelta(seconds=random.uniform(2, 6))
        try:
            await self._queue.release(list(message_ids), later)
        except Temporary as error:
            log.info("leases_not_released", messages=len(message_ids), reason=error.reason)  # they lapse

    # -- clearing away -------------------------------------------------------------------------------------------------

    async def _clear_away(self) -> None:
        """Remove the bodies of messages that are done, and give back those for which a line is too long, in batches."""
        while True:
            await asyncio.sleep(0.25)
            if self._unwanted:
                # What was claimed again meanwhile, as the database had stalled for long, is under way by right.
                unwanted = [one for one in self._unwanted if one not in self._under_way]
                self._unwanted = []
                if unwanted:
                    await self._put_back(*unwanted)
            try:
                await self._remove_emptied()
            except Temporary as error:
                log.info("bodies_left_to_sweeper", reason=error.reason)

    async def _remove_emptied(self) -> None:
        while self._emptied:
            batch, self._emptied = self._emptied[:500], self._emptied[500:]
            await self._bodies.remove(batch)

    async def _look(self) -> None:
        """Ask now and then how late it is and how long the queue is."""
        while True:
            try:
                await self._queue.time.refresh()
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
