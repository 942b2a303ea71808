"""Additions (SPEC S12): addresses that take part in the synchronisation though the directory does not have them.

An address must meet S4 when it is entered, and belong to nobody; later it may belong to the user made of it.
"""

from typing import Any, Literal

from postern_api.customers.store import CustomerStore
from postern_api.directory.additions.schemas import SORTS, AdditionList, AdditionPatch, NewAddition, to_addition
from postern_api.directory.additions.store import AdditionStore, containing
from postern_api.directory.settings.store import DirectoryStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.pagination import Order
from postern_api.http.problems import Problem, conflict, invalid, limit_reached, not_found
from postern_api.tenancy import Tenant
from postern_api.users.store import UserStore
from postern_common.addresses import Address, parse_address
from postern_common.documents import DomainState
from postern_common.events import SettingsChanged
from postern_common.ids import new_id
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]


class Additions:
    """The additions of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = AdditionStore(tenant.resources.mongo, tenant.scope)
        self._directories = DirectoryStore(tenant.resources.mongo, tenant.scope)
        self._users = UserStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: AdditionList) -> tuple[list[Document], str | None]:
        """A page of them."""
        query = {} if listing.search is None else containing(listing.search.strip())
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SORTS))

    async def get(self, addition_id: str) -> Document:
        """One addition."""
        found = await self._store.get(addition_id)
        if found is None:
            raise not_found()
        return found

    async def add(self, body: NewAddition) -> Document:
        """Add one; a second one of the same address is answered with the first."""
        address = parse_address(body.address, pointer="/address")
        document: Document = {
            "_id": new_id("dsx"),
            "address": str(address),
            "key": address.key,
            "first_name": body.first_name,
            "last_name": body.last_name,
            "created_at": self._resources.now(),
            "created_by": self._tenant.principal.id,
            "version": 1,
        }
        if await self._store.of_address(address.key) is not None:
            raise await self._exists(address.key)

        async def work(session: Session) -> None:
            if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
                raise not_found()
            if await self._store.has(limit := self._resources.settings.api_max_directory_rules, session):
                raise limit_reached("additions", limit)
            await self._check(address, session)
            await self._store.insert(document, session)
            await self._changed(document["_id"], "created", session)

        try:
            await self._resources.transact(work)
        except DuplicateKey:
            raise await self._exists(address.key) from None
        return document

    async def change(self, addition_id: str, body: AdditionPatch, condition: IfMatch) -> Document:
        """Apply a merge patch."""
        return await condition.settle(lambda: self._change(addition_id, body, condition))

    async def _change(self, addition_id: str, body: AdditionPatch, condition: IfMatch) -> Document:
        present, changes = await self.get(addition_id), body.changes()
        condition.check(present["version"])
        if not changes:
            return present
        address = parse_address(changes["address"], pointer="/address") if "address" in changes else None
        if address is not None:
            changes |= {"address": str(address), "key": address.key}

        async def work(session: Session) -> Document:
            if address is not None and address.key != present["key"]:
                await self._check(address, session)
            found = await self._store.change(present, changes, session)
            if found is None:
                raise stale()
            await self._changed(addition_id, "updated", session)
            return found

        try:
            return await self._resources.transact(work)
        except DuplicateKey:
            raise await self._exists(changes["key"]) from None

    async def delete(self, addition_id: str, condition: IfMatch) -> None:
        """Remove one: its user is as any other of the directory from now on."""
        await condition.settle(lambda: self._delete(addition_id, condition))

    async def _delete(self, addition_id: str, condition: IfMatch) -> None:
        present = await self.get(addition_id)
        condition.check(present["version"])

        async def work(session: Session) -> None:
            if not await self._store.delete(present, session):
                raise stale()
            await self._changed(addition_id, "deleted", session)

        await self._resources.transact(work)

    async def _check(self, address: Address, session: Session) -> None:
        """Refuse an address outside of the verified domains, or that somebody has."""
        name = address.domain.ascii
        state = (await self._users.hold_domains([name], session)).get(name)
        if state is None:
            message = f"{address.domain.unicode} is not one of the customer's domains."
            raise invalid(message, "/address", code="domain-not-managed")
        if state is not DomainState.VERIFIED:
            message = f"{address.domain.unicode} is {state.value}: only addresses in verified domains can be added."
            raise invalid(message, "/address", code="domain-not-verified")
        for owner in (await self._users.owner_of([address.key], session)).values():
            message = f"The address {address} is in use."
            raise conflict("address-taken", message, pointer="/address", existing={"user_id": owner})

    async def _exists(self, key: str) -> Problem:
        found = await self._store.of_address(key)
        members = {} if found is None else {"existing": to_addition(found).model_dump(mode="json")}
        message = "There is an addition of this address already."
        return conflict("addition-exists", message, pointer="/address", **members)

    async def _changed(
        self, addition_id: str, action: Literal["created", "updated", "deleted"], session: Session
    ) -> None:
        event = SettingsChanged(
            customer_id=self._tenant.customer_id, resource="directory-addition", resource_id=addition_id, action=action
        )
        await self._directories.note_rules(self._resources.now(), session)
        await self._resources.emit(session, event)
