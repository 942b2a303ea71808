"""Gives flagged users their new due times after their customer changed the delay (SPEC S9, BEHAVIOURS 1H 8).

The API notes on the customer when the delay was changed; that is worked off here a batch at a time, each in one
transaction with its events, and the note goes with the last one. A batch takes those whose due time is another than the
one that follows from the flag, the delay and the note, so that any number of schedulers may work, and whoever comes
after a crash goes on. Until then nobody goes by the old delay: the sweep looks at the customer's as well.
"""

from collections.abc import Callable
from typing import Final

import structlog
from prometheus_client import Counter

from postern_common import outbox, telemetry
from postern_common.deletions import due_by_delay
from postern_common.errors import Temporary
from postern_common.events import UserFlaggedForDeletion
from postern_common.mongo import Mongo, Session
from postern_deletion.delays.store import DelayStore

SERVICE: Final = "deletion-scheduler"

log = structlog.get_logger(__name__)
_MOVED: Final = Counter("postern_deletion_due_times_moved_total", "Due times that followed a changed delay.")


class Delays:
    """Works off changed delays; the sweep asks for it."""

    def __init__(self, mongo: Mongo, *, batch: int = 500) -> None:
        self._mongo = mongo
        self._store = DelayStore(mongo)
        self._batch = batch
        self.on_commit: Callable[[], None] = lambda: None

    async def work(self) -> bool:
        """A batch for each customer with a changed delay; True if any is left to do."""
        is_left = False
        for customer_id in await self._store.changed():
            with telemetry.bind(customer_id=customer_id):
                is_left |= await self._batch_of(customer_id)
        return is_left

    async def _batch_of(self, customer_id: str) -> bool:
        """One batch; a bug with one customer must not keep the others waiting."""
        try:
            moved = await self._mongo.transact(lambda session: self._move(customer_id, session))
        except Temporary:
            raise
        except Exception:
            log.exception("delay_not_worked_off")
            return False
        if moved:
            _MOVED.inc(moved)
            log.info("due_times_moved", users=moved)
            self.on_commit()
        return moved == self._batch

    async def _move(self, customer_id: str, session: Session) -> int:
        customer = await self._store.hold(customer_id, session)
        if customer is None:
            return 0  # another scheduler is through
        found = await self._store.outdated(customer, self._batch, session)
        if len(found) < self._batch:
            await self._store.done(customer_id, session)
        if not found:
            return 0
        days, changed_at = customer["deletion_delay_days"], customer["delay_changed_at"]
        moved = [(user, due_by_delay(user["flagged_at"], days, changed_at)) for user in found]
        await self._store.move(customer_id, moved, await self._mongo.server_time(), session)
        events = [
            UserFlaggedForDeletion(
                customer_id=customer_id, user_id=user["_id"], due_at=due_at, reason=user["flag_reason"] or "unknown"
            )
            for user, due_at in moved
        ]
        await outbox.append_all(self._mongo, session, events, service=SERVICE)
        return len(moved)
