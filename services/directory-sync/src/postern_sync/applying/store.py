"""What a transaction of applying reads and writes (DESIGN 5): users and their addresses always together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pymongo.errors import BulkWriteError

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, DuplicateKey, Mongo, Scoped, Session, TenantScope
from postern_sync.applying.writes import Writes, in_order

Document = dict[str, Any]
_DUPLICATE: Final = 11000


class Clash(Exception):
    """Something of the batch is somebody else's meanwhile: an index refused it. The transaction is undone."""


class ApplyStore:
    """One customer's users and all that goes with them."""

    def __init__(self, mongo: Mongo, customer_id: str) -> None:
        self._mongo = mongo
        self._customer_id = customer_id
        self._scope = TenantScope(customer_id)

    def _of(self, name: Collections) -> Scoped:
        return self._mongo.collection(name, self._scope)

    # --- reading, within the transaction ---

    async def lock(self, session: Session) -> Document | None:
        """Make this transaction the only one that adds users or changes licences of the customer."""
        customers = self._of(Collections.CUSTOMERS)
        return await customers.find_one_and_update({}, {"$inc": {"writes": 1}}, session=session)

    async def hold_domains(self, names: Iterable[str], session: Session) -> dict[str, str]:
        """The states of the customer's domains among these, which stay so until the transaction ends."""
        wanted = sorted(names)
        if not wanted:
            return {}
        domains = self._of(Collections.DOMAINS)
        await domains.update_many({"name": {"$in": wanted}}, {"$inc": {"writes": 1}}, session=session)
        found = await domains.find({"name": {"$in": wanted}}, limit=len(wanted), session=session)
        return {domain["name"]: domain["state"] for domain in found}

    async def by_id(self, name: Collections, ids: Iterable[str], session: Session) -> dict[str, Document]:
        """Documents by their ids."""
        wanted = sorted(ids)
        if not wanted:
            return {}
        found = await self._of(name).find({"_id": {"$in": wanted}}, limit=len(wanted), session=session)
        return {document["_id"]: document for document in found}

    async def existing(self, ids: Iterable[str], session: Session) -> set[str]:
        """Which of the users are there."""
        wanted = sorted(ids)
        if not wanted:
            return set()
        query = {"_id": {"$in": wanted}}
        users = self._of(Collections.USERS)
        found = await users.find(query, limit=len(wanted), projection={"_id": 1}, session=session)
        return {user["_id"] for user in found}

    async def by_external_id(self, external_ids: Iterable[str], session: Session) -> dict[str, str]:
        """The users that are joined to these objects of the directory."""
        wanted = sorted(external_ids)
        if not wanted:
            return {}
        # The index is of texts alone, and is used only where the query says so too.
        query = {"external_id": {"$in": wanted, "$type": "string"}}
        users = self._of(Collections.USERS)
        found = await users.find(query, limit=len(wanted), projection={"external_id": 1}, session=session)
        return {user["external_id"]: user["_id"] for user in found}

    async def owners(self, keys: Iterable[str], session: Session) -> dict[str, str]:
        """Whose these addresses are among the customer's users; somebody else's go by an empty id."""
        wanted = sorted(keys)
        if not wanted:
            return {}
        query, shown = {"key": {"$in": wanted}}, {"_id": 0, "key": 1, "user_id": 1, "customer_id": 1}
        everywhere = self._mongo.collection(Collections.ADDRESSES, PLATFORM)
        verified = await everywhere.find(
            query | {"verified": True}, limit=len(wanted), projection=shown, session=session
        )
        own = self._of(Collections.ADDRESSES)
        mine = await own.find(query, limit=len(wanted), projection=shown, session=session)
        owners = {row["key"]: "" for row in verified if row["customer_id"] != self._customer_id}
        return owners | {row["key"]: row["user_id"] for row in mine if row["key"] not in owners}

    async def count_licensed(self, session: Session) -> int:
        """How many licences are in use (SPEC T6)."""
        return await self._of(Collections.USERS).count({"kind": "user"}, session=session)

    async def members_of(self, group_ids: Iterable[str], ids: Iterable[str], session: Session) -> set[tuple[str, str]]:
        """Which of these are members of these groups, wherever that came from."""
        groups, members = sorted(group_ids), sorted(ids)
        if not groups or not members:
            return set()
        query = {"group_id": {"$in": groups}, "member_id": {"$in": members}}
        shown = {"_id": 0, "group_id": 1, "member_id": 1}
        found = self._of(Collections.MEMBERSHIPS).stream(query, projection=shown, session=session)
        return {(row["group_id"], row["member_id"]) async for row in found}

    # --- writing ---

    async def write(self, writes: Writes, session: Session) -> None:
        """Write all of it; raises `Clash` where an index refuses something."""
        with _clashes():
            await self._update_users(writes, session)
            await self._insert(Collections.USERS, writes.users, session)
            await self._move_addresses(writes, session)
            await self._move_primaries(writes.primaries, session)
            await self._write_members(writes, session)
            await self._write_known(writes, session)
            if writes.restored:
                gone = {"_id": {"$in": writes.restored}}
                await self._of(Collections.DELETED_USERS).delete_many(gone, session=session)
            await self._end_access(writes.ended, session)

    async def _move_addresses(self, writes: Writes, session: Session) -> None:
        """Addresses that are lost go, unless somebody else of the batch gets them: those change hands."""
        lost = {key for keys in writes.lost.values() for key in keys}
        changed = [row for row in writes.addresses if row["key"] in lost]
        addresses = self._of(Collections.ADDRESSES)
        if changed:
            await addresses.update_each([({"key": row["key"]}, {"$set": row}) for row in changed], session=session)
        if gone := lost - {row["key"] for row in changed}:
            # Within a customer an address has one owner, so that both lists together name the pairs.
            query = {"key": {"$in": sorted(gone)}, "user_id": {"$in": sorted(writes.lost)}}
            await addresses.delete_many(query, session=session)
        await self._insert(Collections.ADDRESSES, [row for row in writes.addresses if row["key"] not in lost], session)

    async def _update_users(self, writes: Writes, session: Session) -> None:
        order, parked = in_order(
            {user_id: (old, writes.updates[user_id][0]["email_key"]) for user_id, old in writes.moved.items()}
        )
        changes: list[tuple[Document, Document]] = [
            # A name in between that nobody can have.
            ({"_id": user_id}, {"$set": {"email_key": f"~{user_id}"}})
            for user_id in parked
        ]
        rest = [user_id for user_id in writes.updates if user_id not in writes.moved]
        for user_id in [*order, *rest]:
            fields, unset = writes.updates[user_id]
            change = {"$set": fields, "$inc": {"version": 1}, **({"$unset": unset} if unset else {})}
            changes.append(({"_id": user_id}, change))
        if changes:
            await self._of(Collections.USERS).update_each(changes, session=session)

    async def _insert(self, name: Collections, documents: Sequence[Document], session: Session) -> None:
        if documents:
            await self._of(name).insert_many(documents, session=session)

    async def _move_primaries(self, primaries: Mapping[str, tuple[str, str]], session: Session) -> None:
        if primaries:
            changes: list[tuple[Document, Document]] = []
            for user_id, (old_key, new_key) in primaries.items():
                changes.append(({"user_id": user_id, "key": old_key}, {"$set": {"is_primary": False}}))
                changes.append(({"user_id": user_id, "key": new_key}, {"$set": {"is_primary": True}}))
            await self._of(Collections.ADDRESSES).update_each(changes, session=session)

    async def _write_members(self, writes: Writes, session: Session) -> None:
        await self._insert(Collections.MEMBERSHIPS, writes.members, session)
        for group_id, member_ids in writes.members_gone.items():
            gone = {"group_id": group_id, "member_id": {"$in": member_ids}, "source": {"$in": ["ldap", "entra"]}}
            await self._of(Collections.MEMBERSHIPS).delete_many(gone, session=session)

    async def _write_known(self, writes: Writes, session: Session) -> None:
        known = self._of(Collections.KNOWN_ADDRESSES)
        if writes.forgotten or writes.known:
            keys = [*writes.forgotten, *(row["key"] for row in writes.known)]
            await known.delete_many({"key": {"$in": keys}}, session=session)
        await self._insert(Collections.KNOWN_ADDRESSES, writes.known, session)

    async def _end_access(self, user_ids: Sequence[str], session: Session) -> None:
        if user_ids:
            sessions = self._mongo.collection(Collections.SESSIONS, PLATFORM)
            tokens = self._mongo.collection(Collections.TOKENS, PLATFORM)
            await sessions.delete_many({"principal_id": {"$in": list(user_ids)}}, session=session)
            await tokens.delete_many({"owner_id": {"$in": list(user_ids)}}, session=session)


@contextmanager
def _clashes() -> Iterator[None]:
    try:
        yield
    except DuplicateKey as error:
        raise Clash from error
    except BulkWriteError as error:
        if any(fault["code"] == _DUPLICATE for fault in error.details.get("writeErrors", ())):
            raise Clash from error
        raise
