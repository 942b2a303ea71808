"""What a run does, from its claim to its end: read, plan, hold or apply, tell (SPEC S16, S17).

A run that was taken over begins anew unless its plan was stored whole: then the rest of that plan is applied. Nothing
of a customer's users is written before.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Protocol, cast

import structlog

from postern_common import outbox
from postern_common.directory_documents import DirectoryDocument
from postern_common.events import SyncStarted
from postern_common.mongo import Mongo, Session
from postern_sync.applying.application import Application, CustomerGone
from postern_sync.ending import Ending
from postern_sync.people import loading
from postern_sync.people.store import PeopleStore
from postern_sync.planning.exceptions import note_unmatched
from postern_sync.planning.reconcile import reconcile
from postern_sync.plans.store import PlanStore
from postern_sync.plans.storing import Planned, Planner
from postern_sync.rules.proof import prove
from postern_sync.runs.documents import NO_DIRECTORY, SERVICE, SUSPENDED
from postern_sync.runs.lease import Lease
from postern_sync.scope import parts_of, rules_of, scope_of
from postern_sync.settings import SyncSettings
from postern_sync.source import ReadReport, Source, SourceFailed
from postern_sync.workspace import Progress, Workspace

Document = dict[str, Any]
log = structlog.get_logger(__name__)


class MakeSource(Protocol):
    """Where sources come from."""

    def __call__(self, directory: DirectoryDocument, *, keeps: bool) -> Source:
        """The source for a directory; `keeps` tells whether what it reads may be kept for the next run."""


class Engine:
    """Does the work of runs."""

    def __init__(self, mongo: Mongo, settings: SyncSettings, make_source: MakeSource) -> None:
        self._mongo = mongo
        self._settings = settings
        self._make_source = make_source
        self._ending = Ending(mongo)

    async def fail(self, lease: Lease, reason: str, state: str = "failed") -> None:
        """End the run without its work being done."""
        await self._ending.fail(lease, reason, state)

    async def run(self, lease: Lease) -> None:
        """Bring the run to its end, or as far as the lease allows."""
        if await self._is_refused(lease):
            return
        if lease.run["phase"] != "applying" and not await self._plan(lease):
            return
        if await self._is_refused(lease):  # reading may have taken hours
            return
        application = Application(self._mongo, lease, lease.run["provider"], batch=self._settings.sync_batch)
        try:
            await application.run()
        except CustomerGone:
            await self._ending.fail(lease, NO_DIRECTORY)
        else:
            await self._ending.finish(lease)

    async def _is_refused(self, lease: Lease) -> bool:
        """Whether the run has ended here since nothing of its customer's may change (SPEC T9)."""
        customer = await PeopleStore(self._mongo, lease.customer_id).customer()
        if customer is None or customer["state"] != "suspended":
            return False
        await self._ending.fail(lease, SUSPENDED, "cancelled")
        return True

    async def _plan(self, lease: Lease) -> bool:
        """Read and plan; False where the run has ended with that."""
        people = PeopleStore(self._mongo, lease.customer_id)
        customer, directory = await people.customer(), await people.directory()
        if customer is None or directory is None or not directory["enabled"]:
            await self._ending.fail(lease, NO_DIRECTORY)
            return False
        await self._begin(lease, directory)
        with _scratch(self._settings.sync_scratch_dir, lease) as workspace:
            try:
                source = self._make_source(cast(DirectoryDocument, directory), keeps=lease.run["kind"] != "preview")
                report = await source.read(workspace)
            except SourceFailed as error:
                await self._ending.fail(lease, f"{error.step}: {error.message}")
                return False
            log.info("directory_read", users=report.users, groups=report.groups, problems=len(report.problems))
            planned = await self._reconcile(lease, people, customer, directory, workspace, report)
            return await Planner(self._mongo, lease, self._ending).store(workspace, planned)

    async def _begin(self, lease: Lease, directory: Document) -> None:
        """Note that the run has begun, and forget what an attempt before may have left of a plan."""
        is_first = lease.run["started_at"] is None
        now = await self._mongo.server_time()
        fields = {"phase": "reading", "provider": directory["provider"], "progress": {"read": 0}}

        async def work(session: Session) -> None:
            if not is_first:
                await PlanStore(self._mongo, lease.customer_id, lease.run_id).clear(session)
            elif lease.run["kind"] != "preview":
                event = SyncStarted(customer_id=lease.customer_id, run_id=lease.run_id)
                await outbox.append(self._mongo, session, event, service=SERVICE)

        await lease.transact(work, fields | ({"started_at": now} if is_first else {}))
        log.info("run_started", provider=directory["provider"], attempt=lease.attempts + 1)

    async def _reconcile(
        self,
        lease: Lease,
        people: PeopleStore,
        customer: Document,
        directory: Document,
        workspace: Workspace,
        report: ReadReport,
    ) -> Planned:
        """Compare what was read with what is stored."""
        await lease.transact(_nothing, {"phase": "planning"})
        now = await self._mongo.server_time()
        await loading.load(people, workspace, lease, now)
        exceptions = await people.exceptions()
        scope = scope_of(directory, exceptions, report.place)
        parts = parts_of(directory, exceptions, report.place)
        asked = directory.get("asked_since", ())
        proof = prove(report, directory["last_good"], directory["provider"], scope, directory.get("doubt"), asked)
        rules = rules_of(customer, directory, await people.domains(), exceptions, await people.additions(), proof)
        counts = await asyncio.to_thread(reconcile, workspace, rules)
        if proof.is_complete:
            await asyncio.to_thread(note_unmatched, workspace, exceptions)
        return Planned(report, proof, counts, directory, scope, parts, lease.run["started_at"], now)


async def _nothing(_session: Session) -> None:
    return


@contextmanager
def _scratch(folder: Path | None, lease: Lease) -> Iterator[Workspace]:
    handle, name = mkstemp(prefix="postern-sync-", dir=folder)
    os.close(handle)
    rate = Rate(lease)
    workspace = Workspace(Path(name), on_progress=rate.told, is_cancelled=lease.is_stopped)
    # The open file lives on without its name, so that a killed process leaves none behind.
    Path(name).unlink()
    try:
        yield workspace
    finally:
        workspace.close()


class Rate:
    """Turns what a source tells into the run's progress."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._began = time.monotonic()

    def told(self, progress: Progress) -> None:
        """Note it for the next beat."""
        seconds = max(time.monotonic() - self._began, 0.001)
        rate = round(progress.read / seconds, 1)
        self._lease.note(what=progress.phase, read=progress.read, total=progress.total, per_second=rate)
