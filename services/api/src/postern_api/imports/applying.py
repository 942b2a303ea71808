"""Saving what was reviewed (SPEC U3): rows in their order, some hundreds a transaction, each checked once more.

A transaction holds the users, their addresses, the events, the rows' results and how far the import is, so that a
crash between two of them neither loses nor repeats anything. A row is left out as stale where what it was reviewed
against has moved: the user's version, an address that somebody has now, a domain or a site that is gone. New users
beyond the licences are left out in the file's order (SPEC T6).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from postern_api.customers.store import CustomerStore
from postern_api.imports.documents import new_user, update_of
from postern_api.imports.store import LEASE, ImportStore, LeaseLost, PeopleStore
from postern_api.resources import SERVICE, Resources
from postern_api.users.addresses import Addresses
from postern_api.users.store import UserStore
from postern_common import outbox
from postern_common.documents import DomainState
from postern_common.errors import Rejected
from postern_common.events import Event, UserAdded, UserUpdated
from postern_common.import_documents import ImportState
from postern_common.mongo import DuplicateKey, Session, TenantScope

Document = dict[str, Any]
BATCH: Final = 250
MOVED: Final = "The user has changed since the review."
TAKEN: Final = "The address {} is in use since the review."
NO_DOMAIN: Final = "The domain {} is no longer one of the customer's."
NO_SITE: Final = "The site is gone since the review."
NO_LICENCE: Final = "All licences are in use."
SUSPENDED: Final = "The customer is suspended."


@dataclass(frozen=True, slots=True)
class Found:
    """What the rows of a transaction are checked against."""

    states: dict[str, DomainState]
    owners: dict[str, str]
    users: dict[str, Document]
    sites: dict[str, str]


@dataclass(slots=True)
class Changes:
    """What a transaction writes."""

    users: list[Document] = field(default_factory=list)
    addresses: list[Document] = field(default_factory=list)
    updates: list[tuple[Document, Document, Addresses | None]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    done: dict[tuple[str, str | None], list[str]] = field(default_factory=dict)
    results: Counter[str] = field(default_factory=Counter)

    def settle(self, row: Document, result: str, reason: str | None = None, *, counted: str | None = None) -> None:
        """Note what becomes of a row."""
        self.done.setdefault((result, reason), []).append(row["_id"])
        self.results[counted or result] += 1


class Application:
    """The application of one import, by the worker `owner`."""

    def __init__(
        self, resources: Resources, document: Document, owner: str, store: ImportStore, people: PeopleStore
    ) -> None:
        self._resources = resources
        self._import_id: str = document["_id"]
        self._customer_id: str = document["customer_id"]
        self._through: int = document["applied_through"]
        self._owner = owner
        self._store = store
        self._people = people
        self._users = UserStore(resources.mongo, TenantScope(self._customer_id))

    async def run(self) -> None:
        """Apply what is left; raises `Rejected` where nothing more may be changed."""
        while rows := await self._store.next_rows(self._import_id, self._through, BATCH):
            try:
                await self._apply(rows)
            except DuplicateKey:
                # Somebody who does not lock the customer took an address meanwhile: find the row that it belongs to.
                for row in rows:
                    await self._apply_alone(row)
            self._through = rows[-1]["number"]
        await self._finish()

    async def _apply_alone(self, row: Document) -> None:
        try:
            await self._apply([row])
        except DuplicateKey:
            changes = Changes()
            changes.settle(row, "stale", "An address is in use since the review.")

            async def work(session: Session) -> None:
                await self._note(changes, row["number"], session)

            await self._resources.transact(work)

    async def _apply(self, rows: Sequence[Document]) -> None:
        parsed = {row["_id"]: _addresses_of(row) for row in rows}

        async def work(session: Session) -> None:
            customer = await CustomerStore(self._resources.mongo).lock(self._customer_id, session)
            if customer is None:
                raise LeaseLost(self._import_id)
            if customer["state"] == "suspended":
                raise Rejected("customer-suspended", SUSPENDED)
            found = await self._find(rows, parsed, session)
            allowed = customer["allowed_users"]
            free = None if allowed is None else allowed - await self._people.count_licensed(session)
            changes = self._decide(rows, parsed, found, free)
            await self._write(changes, found, session)
            await self._note(changes, rows[-1]["number"], session)

        await self._resources.transact(work)

    async def _find(self, rows: Sequence[Document], parsed: dict[str, Addresses | None], session: Session) -> Found:
        named = [addresses for addresses in parsed.values() if addresses is not None]
        keys = sorted({key for addresses in named for key in addresses.keys})
        domains = sorted({domain for addresses in named for domain in addresses.domains})
        states = await self._users.hold_domains(domains, session) if domains else {}
        owners = await self._people.owners(keys, session) if keys else {}
        ids = [row["user_id"] for row in rows if row["outcome"] == "update"]
        users = await self._people.users(ids, session) if ids else {}
        has_site = any(row["after"].get("site_id") for row in rows)
        return Found(states, owners, users, await self._people.sites(session) if has_site else {})

    def _decide(
        self, rows: Sequence[Document], parsed: dict[str, Addresses | None], found: Found, free: int | None
    ) -> Changes:
        changes, now = Changes(), self._resources.now()
        for row in rows:
            addresses = parsed[row["_id"]]
            reason = stale_reason(row, addresses, found)
            if reason is not None:
                changes.settle(row, "stale", reason)
            elif row["outcome"] == "update":
                changes.updates.append(
                    (row, {**update_of(row, found.users[row["user_id"]]), "updated_at": now}, addresses)
                )
                fields = sorted(row["after"])
                changes.events.append(UserUpdated(customer_id=self._customer_id, user_id=row["user_id"], fields=fields))
                changes.settle(row, "applied", counted="updated")
            elif free is not None and free <= 0:
                changes.settle(row, "left_out", NO_LICENCE)
            elif addresses is not None:
                free = None if free is None else free - 1
                user = new_user(row, addresses, now)
                changes.users.append(user)
                changes.addresses += addresses.documents(user["_id"], found.states)
                changes.events.append(
                    UserAdded(customer_id=self._customer_id, user_id=user["_id"], source=user["source"])
                )
                changes.settle(row, "applied", counted="created")
        return changes

    async def _write(self, changes: Changes, found: Found, session: Session) -> None:
        added = list(changes.addresses)
        removed: list[str] = []
        for row, _, addresses in changes.updates:
            if addresses is not None:
                user, wanted = found.users[row["user_id"]], set(addresses.keys)
                had = {user["email_key"], *(alias["key"] for alias in user["aliases"])}
                removed += sorted(had - wanted)
                fresh = addresses.documents(user["_id"], found.states)
                added += [address for address in fresh if address["key"] not in had]
        if removed:
            await self._people.remove_addresses(removed, session)
        updates = [(row["user_id"], row["user_version"], values) for row, values, _ in changes.updates]
        if updates and not await self._people.change(updates, session):
            raise RuntimeError("a user changed within the transaction that has read it")
        await self._people.insert(changes.users, added, session)
        if changes.events:
            await outbox.append_all(self._resources.mongo, session, changes.events, service=SERVICE)

    async def _note(self, changes: Changes, through: int, session: Session) -> None:
        for (result, reason), row_ids in changes.done.items():
            await self._store.set_results(row_ids, result, reason, session)
        progress = {
            "applied_through": through,
            "attempts": 0,
            "lease_until": await self._resources.mongo.server_time() + LEASE,
            "updated_at": self._resources.now(),
        }
        increments = {f"results.{name}": count for name, count in changes.results.items()}
        await self._store.advance(self._import_id, self._owner, progress, increments=increments, session=session)

    async def _finish(self) -> None:
        document = await self._store.get(self._import_id)
        if document is None:
            raise LeaseLost(self._import_id)
        results, now = document["results"], self._resources.now()
        is_stale = results["stale"] > 0 and not any(results[name] for name in ("created", "updated", "left_out"))
        changes = {
            "state": (ImportState.STALE if is_stale else ImportState.APPLIED).value,
            "is_open": False,
            "attempts": 0,
            "lease_owner": None,
            "finished_at": now,
            "updated_at": now,
        }
        await self._store.advance(self._import_id, self._owner, changes)


def _addresses_of(row: Document) -> Addresses | None:
    """The addresses that the row's user has afterwards; None where the row leaves them alone."""
    after = row["after"]
    if row["outcome"] == "create":
        return Addresses.parse(after["email"], after["aliases"])
    return Addresses.parse(row["email"], after["aliases"]) if "aliases" in after else None


def stale_reason(row: Document, addresses: Addresses | None, found: Found) -> str | None:
    """Why a row no longer does what was reviewed; None if it still does."""
    own = None
    if row["outcome"] == "update":
        user = found.users.get(row["user_id"])
        if user is None or user["version"] != row["user_version"]:
            return MOVED
        own = user["_id"]
    for address in addresses.all if addresses is not None else ():
        if address.domain.ascii not in found.states:
            return NO_DOMAIN.format(address.domain.unicode)
        if found.owners.get(address.key, own) != own:
            return TAKEN.format(address)
    site_id = row["after"].get("site_id")
    return NO_SITE if site_id is not None and site_id not in found.sites else None
