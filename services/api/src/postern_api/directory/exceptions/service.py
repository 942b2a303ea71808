"""Exceptions (SPEC S12): users, groups and aliases that the synchronisation leaves out, whatever the filter says."""

from typing import Any, Literal

from postern_api.customers.store import CustomerStore
from postern_api.directory.exceptions.schemas import SORTS, ExceptionList, ExceptionPatch, NewException, to_exception
from postern_api.directory.exceptions.store import ExceptionStore, containing
from postern_api.directory.settings.store import DirectoryStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.pagination import Order
from postern_api.http.problems import Problem, conflict, invalid, limit_reached, not_found
from postern_api.tenancy import Tenant
from postern_common.addresses import parse_address
from postern_common.events import SettingsChanged
from postern_common.ids import new_id
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]


class Exceptions:
    """The exceptions of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = ExceptionStore(tenant.resources.mongo, tenant.scope)
        self._directories = DirectoryStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: ExceptionList) -> tuple[list[Document], str | None]:
        """A page of them."""
        query: Document = {} if listing.kind is None else {"kind": listing.kind}
        if listing.search is not None:
            query |= containing(listing.search.strip())
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SORTS))

    async def get(self, exception_id: str) -> Document:
        """One exception."""
        found = await self._store.get(exception_id)
        if found is None:
            raise not_found()
        return found

    async def add(self, body: NewException) -> Document:
        """Add one; a second one for the same thing is answered with the first."""
        document: Document = {
            "_id": new_id("dsx"),
            "kind": body.kind,
            **_target(body.kind, body.external_id, body.address),
            "label": await self._label(body),
            "created_at": self._resources.now(),
            "created_by": self._tenant.principal.id,
            "version": 1,
        }

        async def work(session: Session) -> None:
            if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
                raise not_found()
            if await self._store.has(limit := self._resources.settings.api_max_directory_rules, session):
                raise limit_reached("exceptions", limit)
            await self._store.insert(document, session)
            await self._changed(document["_id"], "created", session)

        try:
            await self._resources.transact(work)
        except DuplicateKey:
            raise await self._exists(document) from None
        return document

    async def _label(self, body: NewException) -> str:
        if body.label or body.external_id is None:
            return body.label
        return await self._store.name_of(body.external_id)

    async def change(self, exception_id: str, body: ExceptionPatch, condition: IfMatch) -> Document:
        """Apply a merge patch."""
        return await condition.settle(lambda: self._change(exception_id, body, condition))

    async def _change(self, exception_id: str, body: ExceptionPatch, condition: IfMatch) -> Document:
        present, changes = await self.get(exception_id), body.changes()
        condition.check(present["version"])
        if not changes:
            return present
        if changes.keys() & {"external_id", "address"}:
            external_id = changes.get("external_id", present["external_id"])
            changes |= _target(present["kind"], external_id, changes.pop("address", present["key"]))

        async def work(session: Session) -> Document:
            found = await self._store.change(present, changes, session)
            if found is None:
                raise stale()
            await self._changed(exception_id, "updated", session)
            return found

        try:
            return await self._resources.transact(work)
        except DuplicateKey:
            raise await self._exists(present | changes) from None

    async def delete(self, exception_id: str, condition: IfMatch) -> None:
        """Remove one: the next run takes in what it left out."""
        await condition.settle(lambda: self._delete(exception_id, condition))

    async def _delete(self, exception_id: str, condition: IfMatch) -> None:
        present = await self.get(exception_id)
        condition.check(present["version"])

        async def work(session: Session) -> None:
            if not await self._store.delete(present, session):
                raise stale()
            await self._changed(exception_id, "deleted", session)

        await self._resources.transact(work)

    async def _exists(self, document: Document) -> Problem:
        found = await self._store.like(document)
        members = {} if found is None else {"existing": to_exception(found).model_dump(mode="json")}
        pointer = "/address" if document["kind"] == "alias" else "/external_id"
        return conflict("exception-exists", "There is an exception for this already.", pointer=pointer, **members)

    async def _changed(
        self, exception_id: str, action: Literal["created", "updated", "deleted"], session: Session
    ) -> None:
        event = SettingsChanged(
            customer_id=self._tenant.customer_id,
            resource="directory-exception",
            resource_id=exception_id,
            action=action,
        )
        await self._directories.note_rules(self._resources.now(), session)
        await self._resources.emit(session, event)


def _target(kind: str, external_id: str | None, address: str | None) -> Document:
    """What names the thing: the one that its kind needs, and not the other."""
    if kind == "alias":
        if address is None:
            raise invalid("An alias is named by its address.", "/address")
        if external_id is not None:
            raise invalid("An alias is named by its address alone.", "/external_id")
        return {"external_id": None, "key": parse_address(address, pointer="/address").key}
    if external_id is None:
        raise invalid(f"A {kind} is named by its external_id.", "/external_id")
    if address is not None:
        raise invalid(f"A {kind} is named by its external_id alone.", "/address")
    return {"external_id": external_id, "key": None}
