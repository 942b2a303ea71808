"""Tells of deletions 7, 3 and 1 days ahead, each once, by any number of schedulers (SPEC X3, BEHAVIOURS B-S5).

What was told is noted with the user in the transaction of the event. A due time that moves is told of anew. Whoever is
found late, because no scheduler ran, gets the warning that fits and none of those missed. Users whose due times are
about to move, since their customer changed the delay, are told of when they have.
"""

from collections.abc import Callable
from typing import Final

import structlog
from prometheus_client import Counter

from postern_common import outbox, telemetry
from postern_common.events import UserDeletionDue
from postern_common.mongo import Document, Session
from postern_common.polling import poll
from postern_deletion.delays.store import DelayStore
from postern_deletion.rules import lifecycle
from postern_deletion.store import UserStore

SERVICE: Final = "deletion-scheduler"
BATCH: Final = 500
MAX_PAUSE_SECONDS: Final = 600.0

log = structlog.get_logger(__name__)
_WARNED = Counter("postern_deletion_warnings_total", "Deletions told of ahead, by the days left.", ["days"])


class Warnings:
    """The loop that warns."""

    def __init__(self, store: UserStore, *, poll_seconds: float = 60.0) -> None:
        self._store = store
        self._delays = DelayStore(store.mongo)
        self._mongo = store.mongo
        self._poll_seconds = poll_seconds
        self.on_commit: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Warn until cancelled; back off while the database is away or the clocks differ."""
        await poll(self.look, every=self._poll_seconds, longest=MAX_PAUSE_SECONDS, waits="warnings_wait")

    async def look(self) -> int:
        """Warn of all who are to be warned of now; how many this scheduler told."""
        told = 0
        now = await self._mongo.now()
        moving = await self._delays.changed()
        for days, after, until in lifecycle.spans_of_warnings(now):
            while users := await self._store.to_warn(days, after, until, moving, BATCH):
                for user in users:
                    told += await self._warn(user, days)
                if len(users) < BATCH:
                    break
        return told

    async def _warn(self, user: Document, days: int) -> bool:
        async def work(session: Session) -> bool:
            if not await self._store.warn(user, days, session):
                return False
            event = UserDeletionDue(
                customer_id=user["customer_id"], user_id=user["_id"], due_at=user["due_at"], days=days
            )
            await outbox.append(self._mongo, session, event, service=SERVICE)
            return True

        with telemetry.bind(user_id=user["_id"], customer_id=user["customer_id"]):
            is_ours = await self._mongo.transact(work)
            if is_ours:
                _WARNED.labels(days=str(days)).inc()
                log.info("deletion_told", days=days)
                self.on_commit()
        return is_ours
