"""Events that directory synchronisation consumes: a run is asked for.

A run reads the directory that the customer configured. Where there is none, the run ends as failed with that reason, in
its record and as an event, so that whoever asked is told and nothing stays `requested` for ever.
"""

from collections.abc import Callable
from typing import Final

import structlog

from postern_common import outbox
from postern_common.bus import Handler
from postern_common.envelope import Envelope
from postern_common.events import Event, SyncFailed, SyncRequested
from postern_common.mongo import Session
from postern_sync.store import RunStore

SERVICE: Final = "directory-sync"
NO_DIRECTORY: Final = "no directory configured"

log = structlog.get_logger(__name__)


class Handlers:
    """Idempotent by state: a run that has ended is left alone, whatever comes again or late."""

    def __init__(self, store: RunStore, on_answer: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self.on_answer = on_answer

    def table(self) -> dict[type[Event], Handler]:
        """Which handler takes which event."""
        return {SyncRequested: self.sync_requested}

    async def sync_requested(self, envelope: Envelope, session: Session) -> None:
        """End the run as failed: no directory can be configured yet, so there is none to read."""
        event = envelope.event()
        assert isinstance(event, SyncRequested)  # noqa: S101 - the bus hands over what the table names
        mongo = self._store.mongo
        now = await mongo.now()
        if not await self._store.fail(event.customer_id, event.run_id, NO_DIRECTORY, now, session):
            if await self._store.exists(event.customer_id, event.run_id, session):
                return
            await self._store.add(
                {
                    "_id": event.run_id,
                    "customer_id": event.customer_id,
                    "state": "failed",
                    "requested_by": event.requested_by,
                    "reason": NO_DIRECTORY,
                    "created_at": envelope.time,
                    "finished_at": now,
                    "version": 1,
                },
                session,
            )
        failed = SyncFailed(customer_id=event.customer_id, run_id=event.run_id, reason=NO_DIRECTORY)
        await outbox.append(mongo, session, failed, service=SERVICE, cause=envelope)
        log.info("sync_failed", run_id=event.run_id, reason=NO_DIRECTORY)
        self.on_answer()
