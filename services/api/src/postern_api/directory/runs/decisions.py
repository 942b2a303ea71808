"""Deciding on a run: its plan is approved or rejected, or the run is called off (SPEC S16, ADR 0008).

An approval is for one plan, by its hash, and is a run of its own: the directory is read again, and the plan must come
out the same. What can be told at once is told at once.
"""

from datetime import datetime
from typing import Any, Final

from postern_api.directory.runs.service import Runs
from postern_api.directory.runs.store import RunStore, cancelled
from postern_api.directory.settings.store import DirectoryStore
from postern_api.directory.waiting import first_of
from postern_api.http.problems import Problem, conflict, not_found
from postern_api.tenancy import Tenant
from postern_common.events import SettingsChanged
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]
STALE: Final = "plan-stale"
_SETTLED: Final = {
    "approved": "The plan has been approved and applied.",
    "superseded": "A later run has looked at the directory since.",
}
BY_ADMINISTRATOR: Final = "cancelled by an administrator"


class Decisions:
    """What an administrator decides on the runs of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._runs = Runs(tenant)
        self._store = RunStore(tenant.resources.mongo, tenant.scope)
        self._directories = DirectoryStore(tenant.resources.mongo, tenant.scope)

    async def approve(self, run_id: str, plan_hash: str) -> Document:
        """Have the plan worked out again and applied; waits a little for what comes of it."""

        async def work(session: Session) -> Document:
            run = await self._get(run_id, session)
            await self._check(run, plan_hash, session)
            approval = self._runs.new("approval", approves=run_id, approved_hash=plan_hash)
            await self._runs.add(approval, session)
            return approval

        try:
            approval = await self._resources.transact(work)
        except DuplicateKey:
            raise await self._runs.running() from None
        ended = await first_of(lambda: self._ended(approval["_id"]), self._resources.settings.api_approval_wait_seconds)
        if ended is not None and ended["state"] == "failed" and ended["reason"] == STALE:
            raise _stale("The directory has moved since: the plan comes out differently now.")
        return ended or approval

    async def _check(self, run: Document, plan_hash: str, session: Session) -> None:
        """Refuse where it is known already that the plan does not hold."""
        if run["state"] in _SETTLED:
            raise _stale(_SETTLED[run["state"]])
        is_preview = run["kind"] == "preview" and run["state"] == "completed"
        if run["state"] != "held" and not is_preview:
            raise conflict("wrong-state", f"The run is {run['state']}: it has no plan that waits for a decision.")
        if run["plan_hash"] != plan_hash:
            raise _stale("This is not the hash of the run's plan.")
        if await self._store.under_way(session) is None and await self._store.has_newer(run["_id"], STALE, session):
            raise _stale("A later run has looked at the directory since.")
        directory = await self._directories.get(session)
        if directory is None or not directory["enabled"]:
            raise _stale("Synchronisation is switched off.")
        if directory["updated_at"] > (run["started_at"] or run["created_at"]):
            raise _stale("The directory's settings have changed since.")

    async def _ended(self, run_id: str) -> Document | None:
        run = await self._store.get(run_id)
        return None if run is None or run["state"] in {"requested", "running"} else run

    async def reject(self, run_id: str) -> Document:
        """Decide that what is held is not done."""

        async def work(session: Session) -> Document:
            run = await self._get(run_id, session)
            found = await self._store.end(run_id, "held", {"state": "rejected"}, session)
            if found is None:
                raise conflict("wrong-state", f"The run is {run['state']}: nothing of it is held.")
            await self._resources.emit(session, self._decided(run_id))
            return found

        return await self._resources.transact(work)

    async def cancel(self, run_id: str) -> Document:
        """Call a run off; one that has begun stops where it can."""
        now = self._resources.now()

        async def work(session: Session) -> Document:
            run = await self._get(run_id, session)
            found = await stop(self._store, run, now, BY_ADMINISTRATOR, session)
            if found is None:
                raise conflict("wrong-state", f"The run is {run['state']}: it has ended.")
            await self._resources.emit(session, self._decided(run_id))
            return found

        return await self._resources.transact(work)

    def _decided(self, run_id: str) -> SettingsChanged:
        return SettingsChanged(
            customer_id=self._tenant.customer_id, resource="directory-run", resource_id=run_id, action="updated"
        )

    async def _get(self, run_id: str, session: Session) -> Document:
        run = await self._store.get(run_id, session)
        if run is None:
            raise not_found()
        return run


async def stop(store: RunStore, run: Document, now: datetime, reason: str, session: Session) -> Document | None:
    """End a run that waits, or tell one that has begun to end; None where it has ended."""
    if run["state"] == "requested":
        return await store.end(run["_id"], "requested", cancelled(now, reason), session)
    return await store.ask_to_stop(run["_id"], session)


def _stale(message: str) -> Problem:
    return conflict(STALE, f"{message} Look at a new plan.")
