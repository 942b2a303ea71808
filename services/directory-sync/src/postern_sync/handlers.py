"""Events that directory synchronisation consumes: a run is asked for.

The run's record says what is to be done, and workers look for it by themselves; the event wakes one. Where no directory
is configured, the run ends at once as failed with that reason, in its record and as an event, so that whoever asked is
told and nothing stays `requested` for ever.
"""

from collections.abc import Callable
from typing import Any

import structlog

from postern_common import outbox
from postern_common.bus import Handler
from postern_common.envelope import Envelope
from postern_common.events import Event, SyncFailed, SyncRequested
from postern_common.mongo import Session
from postern_sync.runs.documents import NO_DIRECTORY, OTHER_RUN, SERVICE, ended, new_run
from postern_sync.runs.store import RunStore
from postern_sync.schedule.store import DirectoryStore

Document = dict[str, Any]
log = structlog.get_logger(__name__)


def _nothing() -> None:
    return


class Handlers:
    """Idempotent by state: a run that has begun or ended is left alone, whatever comes again or late."""

    def __init__(self, runs: RunStore, directories: DirectoryStore, wake: Callable[[], None] = _nothing) -> None:
        self._runs = runs
        self._directories = directories
        self._wake = wake
        self.on_answer: Callable[[], None] = _nothing

    def table(self) -> dict[type[Event], Handler]:
        """Which handler takes which event."""
        return {SyncRequested: self.sync_requested}

    async def sync_requested(self, envelope: Envelope, session: Session) -> None:
        """See that the run has a record, end it where there is no directory, and wake a worker."""
        event = envelope.event()
        assert isinstance(event, SyncRequested)  # noqa: S101 - the bus hands over what the table names
        run = await self._runs.get(event.customer_id, event.run_id, session)
        if run is None:
            run = await self._add(event, envelope, session)
        if run["state"] != "requested":
            return
        directory = await self._directories.of(event.customer_id, session)
        if directory is None or not directory["enabled"]:
            await self._fail(run, envelope, session)
        else:
            self._wake()

    async def _add(self, event: SyncRequested, envelope: Envelope, session: Session) -> Document:
        """The record of a run that was asked for by an event alone; none that waits while another one is open."""
        run = new_run(event.customer_id, event.requested_by, envelope.time, event.run_id)
        if await self._runs.open_run(event.customer_id, session) is not None:
            run |= ended("cancelled", await self._runs.mongo.server_time(), OTHER_RUN)
            del run["is_open"]
        await self._runs.add(run, session)
        return run

    async def _fail(self, run: Document, envelope: Envelope, session: Session) -> None:
        now = await self._runs.mongo.server_time()
        if not await self._runs.fail_waiting(run, ended("failed", now, NO_DIRECTORY), session):
            return
        if run["kind"] != "preview":
            failed = SyncFailed(customer_id=run["customer_id"], run_id=run["_id"], reason=NO_DIRECTORY)
            await outbox.append(self._runs.mongo, session, failed, service=SERVICE, cause=envelope)
        log.info("run_failed", run_id=run["_id"], reason=NO_DIRECTORY)
        self.on_answer()
