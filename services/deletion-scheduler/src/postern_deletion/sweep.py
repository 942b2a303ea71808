"""Deletes due users, each in one transaction: claim, addresses, what is kept, event (SPEC X2, X4).

The claim removes the user only while flagged and due by the database's time, so any number of schedulers may sweep: one
of them gets the user, the others nothing, and one who came back in time is not touched. What a killed scheduler left
undone was never done, and a later sweep finds it. While this machine's clock and the database's differ by more than 60
seconds nobody is deleted, and `/readyz` says so. Users whom a synchronisation flagged wait while their directory is
frozen or unread, or no run has confirmed the flag (docs/decisions/0009-deletion-waits.md), and all wait for whom the
customer has a longer delay by now; both are looked at within the deleting transaction.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import datetime
from typing import Final, get_args

import structlog
from prometheus_client import Counter, Gauge

from postern_common import deletions, outbox, telemetry
from postern_common.documents import UserState
from postern_common.errors import Temporary
from postern_common.events import UserDeleted
from postern_common.mongo import Document, Session
from postern_deletion.delays.batches import Delays
from postern_deletion.rules import lifecycle
from postern_deletion.store import Contended, UserStore

SERVICE: Final = "deletion-scheduler"
MAX_PAUSE_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)
_DELETED = Counter("postern_deletion_users_deleted_total", "Users deleted because their delay ended.")
_LOST = Counter("postern_deletion_claims_lost_total", "Due users taken by another, or unflagged in time.")
_DUE = Gauge("postern_deletion_due_users", "Users whose delay has ended and who are still there.")
_PAUSED = Gauge(
    "postern_deletion_paused_customers", "Customers whose due users wait, by why.", ["reason"]
)  # reason: frozen | directory_unread | awaiting_run
_FAILED = Counter("postern_deletion_failures_total", "Deletions that failed and will be tried again.")


class Paused(Exception):
    """The user's deletion waits, and that of all whom the customer's synchronisation flagged, or flagged `after`."""

    def __init__(self, reason: deletions.PauseReason, after: datetime | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Outdated(Exception):
    """The user's due time is that of an older delay: it is about to move."""


class Sweep:
    """The scheduler's loop."""

    def __init__(self, store: UserStore, *, poll_seconds: float = 5.0, batch: int = 100) -> None:
        self._store = store
        self._mongo = store.mongo
        self._poll_seconds = poll_seconds
        self._batch = batch
        self._delays = Delays(store.mongo)
        self._wake = asyncio.Event()
        self._resting = asyncio.Event()
        self._draining = asyncio.Event()
        self._paused: dict[str, Paused] = {}
        self.on_commit: Callable[[], None] = lambda: None
        self._delays.on_commit = self._committed

    def _committed(self) -> None:
        self.on_commit()

    def wake(self) -> None:
        """Sweep now."""
        self._wake.set()

    async def check_clock(self) -> None:
        """For `/readyz`: raise unless the database's time can be trusted for deciding who is due."""
        await self._mongo.now()

    async def run(self) -> None:
        """Sweep until cancelled; back off while the database is away or the clocks differ."""
        pause = self._poll_seconds
        while not self._draining.is_set():
            self._resting.clear()
            try:
                await self.sweep()
                pause = self._poll_seconds
            except Temporary as error:
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                log.warning("sweep_waits", reason=error.reason, pause_seconds=pause)
            self._resting.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.75, 1.25)):
                    await self._wake.wait()
            self._wake.clear()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Begin no further deletion and wait for the one under way."""
        self._draining.set()
        await self._resting.wait()

    async def sweep(self) -> int:
        """Work on changed delays, then delete all who are due; how many this scheduler deleted."""
        if await self._delays.work():
            self.wake()
        deleted = 0
        left: set[str] = set()
        self._paused.clear()
        _DUE.set(await self._store.count_due(await self._mongo.now()))
        while not self._draining.is_set():
            now = await self._mongo.now()
            paused = {customer_id: found.after for customer_id, found in self._paused.items()}
            due = await self._store.due(now, self._batch, left, paused)
            # In an order of its own for each scheduler, so that several do not meet at every user.
            random.shuffle(due)
            for entry in due:
                if self._draining.is_set():
                    break
                with telemetry.bind(user_id=entry["_id"], customer_id=entry["customer_id"]):
                    outcome = await self._is_deleted(entry)
                if outcome:
                    deleted += 1
                else:
                    left.add(entry["_id"])
            if len(due) < self._batch:
                break
        if deleted:
            _DUE.set(await self._store.count_due(await self._mongo.now()))
        reasons = [found.reason for found in self._paused.values()]
        for reason in get_args(deletions.PauseReason):
            _PAUSED.labels(reason=reason).set(reasons.count(reason))
        return deleted

    async def _is_deleted(self, entry: Document) -> bool:
        """Delete one user; a bug with one, or a lock on one, must not keep the others from going."""
        try:
            is_ours = await self._mongo.transact(lambda session: self._delete(entry["_id"], session))
        except (Contended, Outdated):
            is_ours = False
        except Paused as paused:
            if entry["customer_id"] not in self._paused:
                log.warning("deletions_paused", reason=paused.reason)
            self._paused[entry["customer_id"]] = paused
            return False
        except Temporary:
            raise
        except Exception:
            _FAILED.inc()
            log.exception("deletion_failed")
            return False
        if not is_ours:
            _LOST.inc()
            return False
        _DELETED.inc()
        log.info("user_deleted")
        self.on_commit()
        return True

    async def _delete(self, user_id: str, session: Session) -> bool:
        now = await self._mongo.now()
        user = await self._store.take(user_id, now, session)
        if user is None:
            return False
        if not lifecycle.is_due(UserState(user["state"]), user["due_at"], now):
            raise AssertionError("the claim took a user who is not due")
        customer = await self._store.customer(user["customer_id"], session)
        await self._check(user, customer, now, session)
        await self._store.remove_addresses(user, session)
        await self._store.remove_memberships(user, session)
        kept_days = None if customer is None else int(customer["retention"]["deleted_users_days"])
        await self._store.keep(user, now, lifecycle.purge_at(now, kept_days), session)
        event = UserDeleted(customer_id=user["customer_id"], user_id=user_id, reason=lifecycle.REASON)
        await outbox.append(self._mongo, session, event, service=SERVICE)
        return True

    async def _check(self, user: Document, customer: Document | None, now: datetime, session: Session) -> None:
        """Raise where a due user is not to go now; what was done so far is undone with the transaction."""
        if user.get("due_by") != "date" and customer is not None:
            due_at = deletions.due_by_delay(user["flagged_at"], customer["deletion_delay_days"], None)
            if due_at is None or due_at > now:
                raise Outdated
        directory = await self._store.directory(user["customer_id"], session)
        reason = deletions.pause(user, directory, now)
        if reason is not None:
            # All of the customer's wait, save where a run was only too early for those who were flagged after it.
            of_some = directory is not None and reason == "awaiting_run" and not deletions.is_outdated(directory)
            raise Paused(reason, deletions.confirmed(directory) if directory is not None and of_some else None)
