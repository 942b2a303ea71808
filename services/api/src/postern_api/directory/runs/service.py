"""Asking for a run (SPEC S8): runs of one customer never overlap, and none is queued twice."""

from typing import Any, Final

from postern_api.customers.store import CustomerStore
from postern_api.directory.refusals import check_on
from postern_api.directory.runs.schemas import PLAN_SORTS, SORTS, PlanList, RunList, to_run
from postern_api.directory.runs.store import RunStore, labelled
from postern_api.directory.settings.store import DirectoryStore
from postern_api.http.pagination import Order
from postern_api.http.problems import Problem, conflict, not_found
from postern_api.tenancy import Tenant
from postern_common.directory_documents import RunKind
from postern_common.events import SyncRequested
from postern_common.ids import new_id
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]
_SUSPENDED: Final = "This customer is suspended: its directory is not read until the suspension ends."


class Runs:
    """The synchronisation runs of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = RunStore(tenant.resources.mongo, tenant.scope)
        self._directories = DirectoryStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: RunList) -> tuple[list[Document], str | None]:
        """A page of them."""
        query = {field: value for field in ("state", "kind") if (value := getattr(listing, field)) is not None}
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SORTS))

    async def get(self, run_id: str) -> Document:
        """One run."""
        found = await self._store.get(run_id)
        if found is None:
            raise not_found()
        return found

    async def plan(self, run_id: str, listing: PlanList) -> tuple[list[Document], str | None]:
        """A page of a run's plan."""
        run = await self.get(run_id)
        query: Document = {"run_id": run["_id"]}
        query |= {field: value for field in ("action", "state") if (value := getattr(listing, field)) is not None}
        if listing.search is not None:
            query |= labelled(listing.search.strip())
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.items, query, listing, Order.of(listing.sort, PLAN_SORTS))

    async def request(self, kind: RunKind) -> Document:
        """Ask for a run; says so where one is under way, or where there is no directory to read."""
        document = self.new(kind)

        async def work(session: Session) -> None:
            await self.add(document, session)
            check_on(await self._directories.get(session))

        try:
            await self._resources.transact(work)
        except DuplicateKey:
            raise await self.running() from None
        return document

    def new(self, kind: RunKind, **fields: Any) -> Document:
        """A run to be."""
        return {
            "_id": new_id("run"),
            "kind": kind,
            "state": "requested",
            "is_open": True,
            "phase": "waiting",
            "requested_by": self._tenant.principal.id,
            "reason": None,
            "created_at": self._resources.now(),
            "started_at": None,
            "finished_at": None,
            "provider": None,
            "progress": {},
            "counts": {},
            "skipped": {},
            "proof": None,
            "plan_hash": None,
            "plan_part": None,
            "held": None,
            "approves": None,
            "approved_hash": None,
            "cancel_requested": False,
            "lease_owner": None,
            "lease_until": None,
            "version": 1,
            **fields,
        }

    async def add(self, document: Document, session: Session) -> None:
        """Keep a run to be, and have directory-sync told of it; only while none is under way."""
        customer = await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session)
        if customer is None:
            raise not_found()
        if customer["state"] == "suspended":  # whoever asks: a run changes what may not change
            raise Problem("customer-suspended", _SUSPENDED, status=403)
        present = await self._store.under_way(session)
        if present is not None:
            raise _is_running(present)
        await self._store.insert(document, session)
        event = SyncRequested(
            customer_id=self._tenant.customer_id, run_id=document["_id"], requested_by=document["requested_by"]
        )
        await self._resources.emit(session, event)

    async def running(self) -> Problem:
        """The refusal of a run where another one was faster."""
        present = await self._store.under_way()
        return (
            _is_running(present) if present is not None else conflict("sync-running", "A run has just been under way.")
        )


def _is_running(present: Document) -> Problem:
    message = "A run is under way; there is no need for another one."
    return conflict("sync-running", message, existing=to_run(present).model_dump(mode="json"))
