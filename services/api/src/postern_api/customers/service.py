"""Customers: created by the platform or a partner, changed by their administrators, removed once they hold nothing."""

from typing import Any, Final

from postern_api.auth.roles import Permission, Role
from postern_api.customers.schemas import SORTS, CustomerList, CustomerPatch, NewCustomer
from postern_api.customers.store import CustomerStore, visible_to
from postern_api.http.etag import IfMatch, stale
from postern_api.http.pagination import Order
from postern_api.http.problems import conflict, forbidden, invalid, not_found
from postern_api.settings import ApiSettings
from postern_api.tenancy import Caller, Tenant
from postern_common.documents import CustomerDocument, RecipientMode
from postern_common.events import SettingsChanged
from postern_common.ids import new_id
from postern_common.mongo import Session

Document = dict[str, Any]
DEFAULT_DELAY_DAYS: Final = 7
DEFAULT_MESSAGE_BYTES: Final = 50 * 1024 * 1024
DEFAULT_RETENTION: Final = {"trace_days": 30, "quarantine_days": 30, "audit_days": 365, "deleted_users_days": 30}


class Customers:
    """The list of customers, as one principal sees it."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._store = CustomerStore(caller.resources.mongo)

    async def page(self, listing: CustomerList) -> tuple[list[Document], str | None]:
        """A page of those that the principal administers."""
        query = visible_to(self._caller.principal)
        if listing.name is not None:
            query = {"$and": [query, {"name": listing.name}]}
        return await self._caller.pager(listing).read(
            self._store.collection, query, listing, Order.of(listing.sort, SORTS)
        )

    async def create(self, body: NewCustomer) -> Document:
        """Add a customer; a partner's own is its own."""
        principal, resources = self._caller.principal, self._caller.resources
        partner_id = body.partner_id
        if principal.role is Role.PARTNER_ADMIN:
            if partner_id not in {None, principal.partner_id}:
                raise invalid("A partner adds customers of its own only.", "/partner_id")
            partner_id = principal.partner_id
        elif partner_id is not None:  # there are no partners yet, and a customer of nobody's must not wait for one
            raise invalid("There is no such partner.", "/partner_id")
        settings = body.model_dump(exclude_unset=True, exclude={"name", "partner_id", "allowed_users"})
        _check_limits(settings, resources.settings)
        now, limit = resources.now(), resources.settings
        retention = {
            name: min(days, getattr(limit, f"api_max_{name}")) for name, days in DEFAULT_RETENTION.items()
        } | settings.pop("retention", {})
        document: Document = {
            "_id": new_id("cus"),
            "name": body.name,
            "partner_id": partner_id,
            "allowed_users": body.allowed_users,
            "state": "active",
            "recipient_mode": RecipientMode.ACCEPT_ALL.value,
            "plus_addressing": True,
            "deletion_delay_days": DEFAULT_DELAY_DAYS,
            "max_message_bytes": min(DEFAULT_MESSAGE_BYTES, limit.api_max_message_bytes),
            "retention": retention,
            "sync_interval_seconds": None,
            "last_good_sync_at": None,
            "created_at": now,
            "updated_at": now,
            "version": 1,
            **settings,
        }

        async def work(session: Session) -> None:
            await self._store.insert(document, session)
            await resources.emit(session, _changed(document["_id"], "created"))

        await resources.transact(work)
        return document


class CustomerSettings:
    """One customer's own settings."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._store = CustomerStore(tenant.resources.mongo)

    async def change(self, body: CustomerPatch, condition: IfMatch) -> Document:
        """Apply a merge patch."""
        self._check(body.changes())
        return await condition.settle(lambda: self._change(body, condition))

    async def _present(self, condition: IfMatch) -> CustomerDocument:
        found = await self._store.get(self._tenant.customer_id)
        if found is None:
            raise not_found()
        condition.check(found["version"])
        return found

    async def _change(self, body: CustomerPatch, condition: IfMatch) -> Document:
        tenant, resources = self._tenant, self._tenant.resources
        present, changes = await self._present(condition), body.changes()
        now = resources.now()
        for name, days in changes.pop("retention", {}).items():
            changes[f"retention.{name}"] = days
        if not changes:
            return dict(present)
        changes["updated_at"] = now
        if changes.get("deletion_delay_days", ...) not in {..., present["deletion_delay_days"]}:
            # The deletion scheduler works on the users who are flagged already, and keeps them until then.
            changes["delay_changed_at"] = await resources.database_now()

        async def work(session: Session) -> Document:
            found = await self._store.change(tenant.customer_id, present["version"], changes, session)
            if found is None:
                raise stale()
            await resources.emit(session, _changed(tenant.customer_id, "updated"))
            return found

        return await resources.transact(work)

    def _check(self, changes: Document) -> None:
        if "allowed_users" in changes and not self._tenant.principal.may(Permission.LICENCES_WRITE):
            raise forbidden("Licences are set by your partner or the platform.")
        _check_limits(changes, self._tenant.resources.settings)

    async def delete(self, condition: IfMatch) -> None:
        """Remove the customer, which must hold nothing any more."""
        await condition.settle(lambda: self._delete(condition))

    async def _delete(self, condition: IfMatch) -> None:
        tenant, resources = self._tenant, self._tenant.resources
        present, now = await self._present(condition), await resources.database_now()

        async def work(session: Session) -> None:
            locked = await self._store.lock(tenant.customer_id, session)
            if locked is None:
                raise not_found()
            if await self._store.holds_something(tenant.customer_id, session):
                raise conflict("customer-not-empty", "Remove its domains, users and sites first.")
            if not await self._store.delete(tenant.customer_id, present["version"], now, session):
                raise stale()
            await resources.emit(session, _changed(tenant.customer_id, "deleted"))

        await resources.transact(work)


def _check_limits(changes: Document, limits: ApiSettings) -> None:
    if changes.get("max_message_bytes", 0) > limits.api_max_message_bytes:
        raise invalid(f"The platform takes {limits.api_max_message_bytes} octets at most.", "/max_message_bytes")
    for name, days in changes.get("retention", {}).items():
        longest = getattr(limits, f"api_max_{name}")
        if days > longest:
            raise invalid(f"The platform keeps it {longest} days at most.", f"/retention/{name}")


def _changed(customer_id: str, action: Any) -> SettingsChanged:
    return SettingsChanged(customer_id=customer_id, resource="customer", resource_id=customer_id, action=action)
