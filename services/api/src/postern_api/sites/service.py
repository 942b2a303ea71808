"""Sites (SPEC R1): exactly one default a customer, and servers that lie outside (SPEC R12)."""

from collections.abc import Sequence
from typing import Any, Literal

from postern_api.customers.store import CustomerStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.pagination import Order
from postern_api.http.problems import conflict, invalid, limit_reached, not_found
from postern_api.sites.hosts import parse_host
from postern_api.sites.schemas import SORTS, NewSite, ServerInput, SiteList, SitePatch
from postern_api.sites.store import SiteStore
from postern_api.tenancy import Tenant
from postern_common.events import SettingsChanged
from postern_common.ids import new_id
from postern_common.mongo import Session
from postern_common.netguard import NetGuard

Document = dict[str, Any]


class Sites:
    """The sites of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = SiteStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: SiteList) -> tuple[list[Document], str | None]:
        """A page of them."""
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, {}, listing, Order.of(listing.sort, SORTS))

    async def get(self, site_id: str) -> Document:
        """One site."""
        found = await self._store.get(site_id)
        if found is None:
            raise not_found()
        return found

    async def add(self, body: NewSite) -> Document:
        """Add a site; the first one is the default."""
        servers, now = self._servers(body.servers, []), self._resources.now()
        document: Document = {
            "_id": new_id("sit"),
            "description": body.description,
            "is_default": body.is_default,
            "servers": servers,
            "created_at": now,
            "updated_at": now,
            "version": 1,
        }

        async def work(session: Session) -> None:
            await self._lock(session)
            if await self._store.has(limit := self._resources.settings.api_max_sites, session):
                raise limit_reached("sites", limit)
            document["is_default"] = body.is_default or not await self._store.any_other(None, session)
            if document["is_default"]:
                await self._store.end_default(now, session)
            await self._store.insert(document, session)
            await self._changed(document["_id"], "created", session)

        await self._resources.transact(work)
        return document

    async def replace(self, site_id: str, body: NewSite, condition: IfMatch) -> Document:
        """Replace a site as a whole."""
        changes = body.model_dump(exclude={"servers"})
        return await condition.settle(lambda: self._change(site_id, dict(changes), body.servers, condition))

    async def change(self, site_id: str, body: SitePatch, condition: IfMatch) -> Document:
        """Apply a merge patch."""
        changes = body.changes()
        servers = body.servers if changes.pop("servers", None) is not None else None
        return await condition.settle(lambda: self._change(site_id, dict(changes), servers, condition))

    async def _change(
        self, site_id: str, changes: Document, servers: Sequence[ServerInput] | None, condition: IfMatch
    ) -> Document:
        document = await self.get(site_id)
        condition.check(document["version"])
        if not changes and servers is None:
            return document
        now = self._resources.now()
        changes["updated_at"] = now
        if servers is not None:
            changes["servers"] = self._servers(servers, document["servers"])
        is_default = changes.get("is_default", document["is_default"])
        if document["is_default"] and not is_default:
            raise conflict("default-site", "Make another site the default instead.", pointer="/is_default")

        async def work(session: Session) -> Document:
            await self._lock(session)
            if is_default and not document["is_default"]:
                await self._store.end_default(now, session)
            found = await self._store.change(site_id, document["version"], changes, session)
            if found is None:
                raise stale()
            await self._changed(site_id, "updated", session)
            return found

        return await self._resources.transact(work)

    async def delete(self, site_id: str, condition: IfMatch) -> None:
        """Remove a site that nothing uses; the default one only as the last."""
        await condition.settle(lambda: self._delete(site_id, condition))

    async def _delete(self, site_id: str, condition: IfMatch) -> None:
        document = await self.get(site_id)
        condition.check(document["version"])

        async def work(session: Session) -> None:
            await self._lock(session)
            if await self._store.is_used(site_id, session):
                raise conflict("site-in-use", "A domain or a user names this site.")
            if document["is_default"] and await self._store.any_other(site_id, session):
                raise conflict("default-site", "Make another site the default first.")
            if not await self._store.delete(site_id, document["version"], session):
                raise stale()
            await self._changed(site_id, "deleted", session)

        await self._resources.transact(work)

    async def _lock(self, session: Session) -> None:
        if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
            raise not_found()

    async def _changed(self, site_id: str, action: Literal["created", "updated", "deleted"], session: Session) -> None:
        event = SettingsChanged(
            customer_id=self._tenant.customer_id, resource="site", resource_id=site_id, action=action
        )
        await self._resources.emit(session, event)

    def _servers(self, wanted: Sequence[ServerInput], present: Sequence[Document]) -> list[Document]:
        """The servers to store: checked, and with the ids of those that stay."""
        settings = self._resources.settings
        guard = NetGuard(settings.allow_networks)
        by_id = {server["id"]: server for server in present}
        by_place = {(server["host"], server["port"]): server["id"] for server in present}
        servers: list[Document] = []
        taken: set[str] = set()
        for number, server in enumerate(wanted):
            pointer = f"/servers/{number}"
            host = parse_host(server.host, guard, settings.api_own_mx_hosts, f"{pointer}/host")
            if server.id is not None and server.id not in by_id:
                raise invalid("The site has no such server.", f"{pointer}/id")
            kept = server.id or by_place.get((host, server.port))
            server_id = kept if kept is not None and kept not in taken else new_id("srv")
            if any((other["host"], other["port"]) == (host, server.port) for other in servers):
                raise invalid("This server is there twice.", pointer)
            taken.add(server_id)
            servers.append(
                {"id": server_id, "host": host, "port": server.port, "priority": server.priority, "tls": server.tls}
            )
        return servers
