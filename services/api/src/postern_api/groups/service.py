"""Groups: found, and kept by hand where no directory has them (SPEC S7).

Each membership has a source. What a directory says of its groups is not changed by hand, since the next run would
bring it back; members added by hand stay, whatever the directory says (B-S6).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from postern_api.customers.store import CustomerStore
from postern_api.groups.schemas import SORTS, GroupList, GroupPatch, MemberChange, MembersChanged, NewGroup
from postern_api.groups.store import LIST, GroupStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.pagination import Order
from postern_api.http.problems import conflict, invalid, not_found
from postern_api.tenancy import Tenant
from postern_api.users.addresses import Addresses
from postern_api.users.deletion import forget_user
from postern_api.users.store import UserStore, containing
from postern_common.documents import UserSource, UserState
from postern_common.events import UserAdded, UserUpdated
from postern_common.ids import new_id
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]
T = TypeVar("T")
MANUAL: Final = UserSource.MANUAL.value
BY_HAND: Final = "by hand"
_EMPTY: Final = ("first_name", "home_phone", "mobile", "company", "department", "notes")
_NONE: Final = (
    "site_id", "flagged_at", "due_at", "flag_reason", "external_id", "external_id_kind", "immutable_id",
    "directory_state",
)  # fmt: skip


class Groups:
    """The groups of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = GroupStore(tenant.resources.mongo, tenant.scope)
        self._users = UserStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: GroupList) -> tuple[list[Document], str | None]:
        """A page of them."""
        query: Document = {"kind": LIST}
        query |= {field: value for field in ("source", "state") if (value := getattr(listing, field)) is not None}
        if listing.search is not None:
            query |= containing(listing.search.strip())
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SORTS))

    async def get(self, group_id: str) -> Document:
        """One group."""
        found = await self._store.get(group_id)
        if found is None:
            raise not_found()
        return found

    async def count(self, group_id: str) -> int:
        """How many are directly in it."""
        return await self._store.count(group_id)

    async def add(self, body: NewGroup) -> Document:
        """Add a list; its addresses are as unique as a user's."""
        addresses = Addresses.parse(body.email, body.aliases)
        document = self._new(body.name, addresses)
        members = list(dict.fromkeys(body.members))

        async def work(session: Session) -> None:
            await self._lock(session)
            states = await self._users.hold_domains(addresses.domains, session)
            addresses.check_domains(states)
            for key, owner in (await self._users.owner_of(addresses.keys, session)).items():
                raise addresses.taken(key, owner)
            await self._check_members(members, "/members", session)
            await self._users.insert(document, session)
            await self._users.add_addresses(addresses.documents(document["_id"], states), session)
            await self._store.add(document["_id"], members, MANUAL, session)
            event = UserAdded(customer_id=self._tenant.customer_id, user_id=document["_id"], source=MANUAL)
            await self._resources.emit(session, event)

        await self._unique(work, addresses)
        return document

    def _new(self, name: str, addresses: Addresses) -> Document:
        now = self._resources.now()
        return {
            "_id": new_id("usr"),
            "email": str(addresses.primary),
            "email_key": addresses.primary.key,
            "aliases": [{"address": str(one), "key": one.key, "source": MANUAL} for one in addresses.aliases],
            "kind": LIST,
            "source": MANUAL,
            "last_name": name,
            **dict.fromkeys(_EMPTY, ""),
            **dict.fromkeys(_NONE),
            "settings": {},
            "state": UserState.ACTIVE.value,
            "created_at": now,
            "updated_at": now,
            "version": 1,
        }

    async def _unique(self, work: Callable[[Session], Awaitable[T]], addresses: Addresses) -> T:
        try:
            return await self._resources.transact(work)
        except DuplicateKey as error:
            pattern = (error.details or {}).get("keyValue", {})
            key = pattern.get("key") or pattern.get("email_key")
            raise addresses.taken(key if key in addresses.keys else addresses.primary.key) from None

    async def change(self, group_id: str, body: GroupPatch, condition: IfMatch) -> Document:
        """Apply a merge patch."""
        return await condition.settle(lambda: self._change(group_id, body, condition))

    async def _change(self, group_id: str, body: GroupPatch, condition: IfMatch) -> Document:
        present, changes = await self.get(group_id), body.changes()
        condition.check(present["version"])
        _check_by_hand(present)
        if not changes:
            return present
        wanted = {"first_name": "", "last_name": changes["name"], "updated_at": self._resources.now()}

        async def work(session: Session) -> Document:
            found = await self._users.change(group_id, present["version"], wanted, session)
            if found is None:
                raise stale()
            await self._updated(group_id, "name", session)
            return found

        return await self._resources.transact(work)

    async def delete(self, group_id: str, condition: IfMatch) -> None:
        """Remove a list that is kept by hand; its members stay."""
        now = self._resources.now()

        async def work(session: Session) -> None:
            present = await self._store.get(group_id, session)
            if present is None:
                raise not_found()
            condition.check(present["version"])
            _check_by_hand(present)
            await self._store.forget(group_id, session)
            await forget_user(self._tenant, present, BY_HAND, now, session)

        await self._resources.transact(work)

    async def change_members(self, group_id: str, body: MemberChange) -> MembersChanged:
        """Put members in and take members out, all or nothing."""
        wanted, unwanted = list(dict.fromkeys(body.add)), list(dict.fromkeys(body.remove))
        if set(wanted) & set(unwanted):
            raise invalid("A member cannot both come and go.", "/remove")

        async def work(session: Session) -> MembersChanged:
            await self._lock(session)
            if await self._store.get(group_id, session) is None:
                raise not_found()
            await self._check_members(wanted, "/add", session, but=group_id)
            there = await self._store.present(group_id, [*wanted, *unwanted], session)
            added = [one for one in wanted if one not in there]
            removed = [one for one in unwanted if one in there]
            if any(there[one] != MANUAL for one in removed):
                message = "Members that came from the directory are removed there."
                raise conflict("wrong-state", message, pointer="/remove")
            await self._store.add(group_id, added, MANUAL, session)
            await self._store.remove(group_id, removed, session)
            if added or removed:
                await self._updated(group_id, "members", session)
            return MembersChanged(added=len(added), removed=len(removed))

        return await self._resources.transact(work)

    async def _check_members(
        self, member_ids: Sequence[str], pointer: str, session: Session, *, but: str | None = None
    ) -> None:
        known = await self._store.users(member_ids, session)
        for number, member_id in enumerate(member_ids):
            if member_id not in known:
                raise invalid("There is no such user or group.", f"{pointer}/{number}")
            if member_id == but:
                raise invalid("A group is no member of itself.", f"{pointer}/{number}")

    async def _lock(self, session: Session) -> None:
        if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
            raise not_found()

    async def _updated(self, group_id: str, field: str, session: Session) -> None:
        event = UserUpdated(customer_id=self._tenant.customer_id, user_id=group_id, fields=[field])
        await self._resources.emit(session, event)


def _check_by_hand(group: Document) -> None:
    if group["source"] != MANUAL:
        raise conflict("wrong-state", "The group comes from the directory: it is changed there.")
