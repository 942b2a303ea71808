"""Asking for a synchronisation (SPEC S8): runs of one customer never overlap, and none is queued twice."""

from typing import Any

from postern_api.customers.store import CustomerStore
from postern_api.directory.schemas import SORTS, RunList, to_run
from postern_api.directory.store import RunStore
from postern_api.http.pagination import Order
from postern_api.http.problems import conflict, not_found
from postern_api.tenancy import Tenant
from postern_common.events import SyncRequested
from postern_common.ids import new_id
from postern_common.mongo import Session

Document = dict[str, Any]


class Runs:
    """The synchronisation runs of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = RunStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: RunList) -> tuple[list[Document], str | None]:
        """A page of them."""
        query: Document = {} if listing.state is None else {"state": listing.state}
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SORTS))

    async def get(self, run_id: str) -> Document:
        """One run."""
        found = await self._store.get(run_id)
        if found is None:
            raise not_found()
        return found

    async def request(self) -> Document:
        """Ask for a run; says so where one is under way."""
        document: Document = {
            "_id": new_id("run"),
            "state": "requested",
            "requested_by": self._tenant.principal.id,
            "reason": None,
            "created_at": self._resources.now(),
            "finished_at": None,
            "version": 1,
        }

        async def work(session: Session) -> None:
            if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
                raise not_found()
            present = await self._store.under_way(session)
            if present is not None:
                message = "A run is under way; there is no need for another one."
                raise conflict("sync-running", message, existing=to_run(present).model_dump(mode="json"))
            await self._store.insert(document, session)
            event = SyncRequested(
                customer_id=self._tenant.customer_id, run_id=document["_id"], requested_by=document["requested_by"]
            )
            await self._resources.emit(session, event)

        await self._resources.transact(work)
        return document
