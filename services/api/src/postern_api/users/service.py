"""Users entered by hand (SPEC U1, U2, U4): found, added, changed; their addresses are unique."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from postern_api.customers.store import CustomerStore
from postern_api.directory.settings.store import DirectoryStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.pagination import Order
from postern_api.http.problems import conflict, invalid, not_found
from postern_api.tenancy import Tenant
from postern_api.users.addresses import Addresses
from postern_api.users.owned import DIRECTORY_SOURCES, check_owned
from postern_api.users.schemas import SORTS, NewUser, UserList, UserPatch
from postern_api.users.store import UserStore, containing, primarily_in
from postern_common.addresses import parse_address, parse_domain
from postern_common.documents import CustomerDocument, UserSource, UserState
from postern_common.errors import Rejected
from postern_common.events import UserAdded, UserUpdated
from postern_common.ids import new_id
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]
T = TypeVar("T")


class Users:
    """The users of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = UserStore(tenant.resources.mongo, tenant.scope)
        self._directories = DirectoryStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: UserList) -> tuple[list[Document], str | None]:
        """A page of them."""
        conditions: list[Document] = [
            {field: value} for field in ("state", "source", "kind") if (value := getattr(listing, field)) is not None
        ]
        if listing.search is not None:
            conditions.append(containing(listing.search.strip()))
        if listing.domain is not None:
            conditions.append(primarily_in(parse_domain(listing.domain, pointer="/domain").ascii))
        if listing.email is not None:
            conditions.append(await self._with_address(listing.email))
        query: Document = {"$and": conditions} if conditions else {}
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SORTS))

    async def _with_address(self, text: str) -> Document:
        try:
            key = parse_address(text).key
        except Rejected:
            return {"_id": ""}
        return {"_id": await self._store.id_of_address(key) or ""}

    async def get(self, user_id: str) -> Document:
        """One user."""
        found = await self._store.get(user_id)
        if found is None:
            raise not_found()
        return found

    async def add(self, body: NewUser) -> Document:
        """Add a user; in a domain that is not verified yet, a prepared one."""
        addresses = Addresses.parse(body.email, body.aliases)
        document = self._new(body, addresses)

        async def work(session: Session) -> None:
            customer = await self._lock(session)
            await check_licence(customer, self._store, session)
            await self._check_site(body.site_id, session)
            states = await self._store.hold_domains(addresses.domains, session)
            addresses.check_domains(states)
            for key, owner in (await self._store.owner_of(addresses.keys, session)).items():
                raise addresses.taken(key, owner)
            await self._store.insert(document, session)
            await self._store.add_addresses(addresses.documents(document["_id"], states), session)
            event = UserAdded(customer_id=self._tenant.customer_id, user_id=document["_id"], source=document["source"])
            await self._resources.emit(session, event)

        await self._unique(work, addresses)
        return document

    def _new(self, body: NewUser, addresses: Addresses) -> Document:
        now = self._resources.now()
        return {
            "_id": new_id("usr"),
            "email": str(addresses.primary),
            "email_key": addresses.primary.key,
            "aliases": [_alias(str(alias), alias.key) for alias in addresses.aliases],
            "kind": "user",
            "source": UserSource.MANUAL.value,
            **body.model_dump(include=_PLAIN),
            "settings": body.settings.model_dump(),
            "state": UserState.ACTIVE.value,
            "flagged_at": None,
            "due_at": None,
            "flag_reason": None,
            "external_id": None,
            "external_id_kind": None,
            "immutable_id": None,
            "directory_state": None,
            "created_at": now,
            "updated_at": now,
            "version": 1,
        }

    async def change(self, user_id: str, body: UserPatch, condition: IfMatch) -> Document:
        """Apply a merge patch."""
        return await condition.settle(lambda: self._change(user_id, body, condition))

    async def _change(self, user_id: str, body: UserPatch, condition: IfMatch) -> Document:
        present = await self.get(user_id)
        condition.check(present["version"])
        changes = body.changes()
        fields = sorted(changes)
        addresses = self._patched_addresses(changes, present)
        if present["source"] in DIRECTORY_SOURCES:
            check_owned(await self._directories.get(), present, changes)
        for part, values in changes.pop("settings", {}).items():
            changes |= {f"settings.{part}.{name}": value for name, value in values.items()}
        if not changes:
            return present
        changes["updated_at"] = self._resources.now()

        async def work(session: Session) -> Document:
            await self._lock(session)
            await self._check_site(changes.get("site_id"), session)
            if addresses is not None:
                await self._move_addresses(present, addresses, session)
            found = await self._store.change(user_id, present["version"], changes, session)
            if found is None:
                raise stale()
            event = UserUpdated(customer_id=self._tenant.customer_id, user_id=user_id, fields=fields)
            await self._resources.emit(session, event)
            return found

        return await self._unique(work, addresses)

    def _patched_addresses(self, changes: Document, present: Document) -> Addresses | None:
        """The addresses after the patch, put into `changes`; None where it says nothing of them."""
        if "email" not in changes and "aliases" not in changes:
            return None
        kept = {alias["key"]: alias for alias in present["aliases"]}
        texts = changes.get("aliases", [alias["address"] for alias in present["aliases"]])
        addresses = Addresses.parse(changes.get("email") or present["email"], texts)
        changes["email"] = str(addresses.primary)
        changes["email_key"] = addresses.primary.key
        changes["aliases"] = [
            {**kept[alias.key], "address": str(alias)} if alias.key in kept else _alias(str(alias), alias.key)
            for alias in addresses.aliases
        ]
        return addresses

    async def _move_addresses(self, present: Document, addresses: Addresses, session: Session) -> None:
        """Keep the collection of addresses in step with the user."""
        user_id = present["_id"]
        had = {present["email_key"], *(alias["key"] for alias in present["aliases"])}
        wanted = set(addresses.keys)
        states = await self._store.hold_domains(addresses.domains, session)
        addresses.check_domains(states)
        for key, owner in (await self._store.owner_of(sorted(wanted - had), session)).items():
            raise addresses.taken(key, owner)
        await self._store.remove_addresses(user_id, sorted(had - wanted), session)
        added = [address for address in addresses.documents(user_id, states) if address["key"] not in had]
        await self._store.add_addresses(added, session)
        await self._store.set_primary(user_id, addresses.primary.key, session)

    async def _unique(self, work: Callable[[Session], Awaitable[T]], addresses: Addresses | None) -> T:
        """Run the transaction; an index that refuses an address answers like the check that came too early."""
        try:
            return await self._resources.transact(work)
        except DuplicateKey as error:
            if addresses is None:
                raise
            pattern = (error.details or {}).get("keyValue", {})
            key = pattern.get("key") or pattern.get("email_key")
            raise addresses.taken(key if key in addresses.keys else addresses.primary.key) from None

    async def _lock(self, session: Session) -> CustomerDocument:
        customer = await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session)
        if customer is None:
            raise not_found()
        return customer

    async def _check_site(self, site_id: str | None, session: Session) -> None:
        if site_id is not None and not await self._store.has_site(site_id, session):
            raise invalid("There is no such site.", "/site_id")


async def check_licence(customer: CustomerDocument, store: UserStore, session: Session) -> None:
    """Refuse one more user where all licences are in use (SPEC T6)."""
    allowed = customer["allowed_users"]
    if allowed is not None and await store.count_licensed(session) >= allowed:
        raise conflict("licence-limit", f"All {allowed} licences are in use. Remove a user, or have the number raised.")


_PLAIN: Final = {"first_name", "last_name", "home_phone", "mobile", "company", "department", "notes", "site_id"}


def _alias(address: str, key: str) -> Document:
    return {"address": address, "key": key, "source": UserSource.MANUAL.value}
