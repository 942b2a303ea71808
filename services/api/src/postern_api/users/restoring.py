"""Deleted users while they are kept, and their way back (SPEC X2, S15)."""

from datetime import datetime
from typing import Any, Final

from postern_api.customers.store import CustomerStore
from postern_api.http.pagination import Order
from postern_api.http.problems import conflict, not_found
from postern_api.tenancy import Tenant
from postern_api.users.addresses import Addresses
from postern_api.users.deleted_schemas import SORTS, DeletedUserList
from postern_api.users.service import check_licence
from postern_api.users.store import UserStore
from postern_common.documents import UserSource, UserState
from postern_common.events import UserRestored
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]
_DIRECTORY_SOURCES: Final = frozenset({UserSource.LDAP.value, UserSource.ENTRA.value})
# What belonged to the time before the deletion.
_LEFT_BEHIND: Final = ("due_by", "warned", "absent_runs")


class DeletedUsers:
    """A customer's deleted users."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = UserStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: DeletedUserList) -> tuple[list[Document], str | None]:
        """A page of those who can be restored."""
        query: Document = {"purge_at": {"$gt": self._resources.now()}}
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.deleted, query, listing, Order.of(listing.sort, SORTS))

    async def restore(self, user_id: str) -> Document:
        """Bring a user back under the same id, with the addresses that are still free."""
        now = self._resources.now()

        async def work(session: Session) -> Document:
            customer = await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session)
            kept = await self._store.get_deleted(user_id, now, session)
            if customer is None or kept is None:
                raise not_found()
            user = _back(kept["user"], now)
            if user["kind"] == "user":
                await check_licence(customer, self._store, session)
            if user["site_id"] is not None and not await self._store.has_site(user["site_id"], session):
                user["site_id"] = None
            await self._take_addresses(user, session)
            await self._store.insert(user, session)
            await self._store.drop_deleted(user_id, session)
            await self._resources.emit(session, UserRestored(customer_id=self._tenant.customer_id, user_id=user_id))
            return user

        try:
            return await self._resources.transact(work)
        except DuplicateKey:  # another customer verified the address's domain in the same moment
            raise conflict("address-taken", "One of the addresses was taken in the same moment.") from None

    async def _take_addresses(self, user: Document, session: Session) -> None:
        wanted = Addresses.parse(user["email"], [alias["address"] for alias in user["aliases"]])
        states = await self._store.hold_domains(wanted.domains, session)
        owners = await self._store.owner_of(wanted.keys, session)
        if wanted.primary.key in owners:
            raise wanted.taken(wanted.primary.key, owners[wanted.primary.key])
        Addresses(wanted.primary, ()).check_domains(states)
        # Only this customer's owners are asked: in its verified domains nobody else has any, and in a pending one the
        # answer would tell what another customer has (SPEC T2, U4).
        free = [one for one in wanted.aliases if one.key not in owners and one.domain.ascii in states]
        kept = {one.key for one in free}
        user["aliases"] = [alias for alias in user["aliases"] if alias["key"] in kept]
        addresses = Addresses(wanted.primary, tuple(free))
        await self._store.add_addresses(addresses.documents(user["_id"], states), session)


def _back(kept: Document, now: datetime) -> Document:
    """The user as active, joined to nothing: the next run joins whom it finds, by address.

    One whom a directory no longer has is kept by hand from now on, or the next run would flag them again.
    """
    user = {name: value for name, value in kept.items() if name not in _LEFT_BEHIND}
    user |= {
        "state": UserState.ACTIVE.value,
        "flagged_at": None,
        "due_at": None,
        "flag_reason": None,
        "updated_at": now,
        "version": kept["version"] + 1,
        "external_id": None,
        "external_id_kind": None,
        "directory_state": None,
    }
    if user["source"] in _DIRECTORY_SOURCES:
        user["source"] = UserSource.MANUAL.value
    return user
