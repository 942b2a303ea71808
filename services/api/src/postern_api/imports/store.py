"""Stored imports: the document, its rows, and the pieces of the file until they are read.

Workers act under a lease: whatever they write names them as its holder, so that one whose lease has passed to another
process changes nothing any more.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson import encode
from bson.binary import Binary

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]
CHUNK_BYTES: Final = 255 * 1024
LEASE: Final = timedelta(seconds=60)
# As long ago as can be, whatever the clocks say: whoever looks next may take it.
FREE: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LeaseLost(Exception):
    """The import is gone, or another process has taken it over."""


class ImportStore:
    """The imports of a customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._imports = mongo.collection(Collections.IMPORTS, scope)
        self._rows = mongo.collection(Collections.IMPORT_ROWS, scope)
        self._chunks = mongo.collection(Collections.IMPORT_CHUNKS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages of imports."""
        return self._imports

    @property
    def rows(self) -> Scoped:
        """For reading pages of rows."""
        return self._rows

    async def get(self, import_id: str) -> Document | None:
        """One import."""
        return await self._imports.find_one({"_id": import_id})

    async def has(self, count: int, session: Session) -> bool:
        """Whether there are that many."""
        return await self._imports.count({}, limit=count, session=session) >= count

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new import."""
        await self._imports.insert_one(document, session=session)

    async def change(self, import_id: str, version: int, changes: Mapping[str, Any], session: Session) -> bool:
        """Change the version that was read; False if it is gone or has changed."""
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        return bool(await self._imports.update_one({"_id": import_id, "version": version}, update, session=session))

    async def delete(self, import_id: str, version: int, session: Session) -> bool:
        """Remove the version that was read."""
        return bool(await self._imports.delete_one({"_id": import_id, "version": version}, session=session))

    async def delete_parts(self, import_id: str) -> None:
        """Remove rows and file of an import that is gone; what a dead process leaves goes at its `delete_at`."""
        await self._rows.delete_many({"import_id": import_id})
        await self._chunks.delete_many({"import_id": import_id})

    # -- the file -----------------------------------------------------------------------------------------------------

    async def add_chunk(self, import_id: str, number: int, data: bytes, delete_at: datetime) -> None:
        """Keep a piece of the file."""
        chunk = {"_id": f"{import_id}.{number}", "import_id": import_id, "number": number, "data": Binary(data)}
        await self._chunks.insert_one(chunk | {"delete_at": delete_at})

    async def chunks(self, import_id: str) -> AsyncIterator[bytes]:
        """The pieces of the file in their order."""
        async for chunk in self._chunks.stream({"import_id": import_id}, sort=[("number", 1)], batch_size=8):
            yield bytes(chunk["data"])

    async def delete_chunks(self, import_id: str) -> None:
        """Forget the file."""
        await self._chunks.delete_many({"import_id": import_id})

    # -- rows ---------------------------------------------------------------------------------------------------------

    async def delete_rows(self, import_id: str) -> None:
        """Forget what a review that broke off has found."""
        await self._rows.delete_many({"import_id": import_id})

    async def add_rows(self, rows: Sequence[Document]) -> None:
        """Keep reviewed rows."""
        await self._rows.insert_many(list(rows), ordered=False)

    async def next_rows(self, import_id: str, after: int, count: int) -> list[Document]:
        """The next rows that change something."""
        query = {"import_id": import_id, "number": {"$gt": after}, "outcome": {"$in": ["create", "update"]}}
        return await self._rows.find(query, limit=count, sort=[("number", 1)])

    async def set_results(self, row_ids: Sequence[str], result: str, reason: str | None, session: Session) -> None:
        """Note what became of rows."""
        change = {"$set": {"result": result, "result_reason": reason}}
        await self._rows.update_many({"_id": {"$in": list(row_ids)}}, change, session=session)

    # -- work under a lease -------------------------------------------------------------------------------------------

    async def advance(
        self,
        import_id: str,
        owner: str,
        changes: Mapping[str, Any],
        *,
        increments: Mapping[str, int] | None = None,
        session: Session | None = None,
    ) -> None:
        """Note progress or an end; raises `LeaseLost` where another holds the import, or it is gone."""
        update = {"$set": dict(changes), "$inc": {"version": 1, **(increments or {})}}
        held = {"_id": import_id, "is_open": True, "lease_owner": owner}
        if not await self._imports.update_one(held, update, session=session):
            raise LeaseLost(import_id)


class LeaseStore:
    """Imports of all customers, for the workers."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._imports = mongo.collection(Collections.IMPORTS, PLATFORM)

    async def claim(self, owner: str) -> Document | None:
        """Take the import that waits longest; None where there is none. It counts as an attempt from here on, so that a
        file that kills whoever reads it is not read for ever.
        """
        now = await self._mongo.server_time()
        change = {"$set": {"lease_owner": owner, "lease_until": now + LEASE}, "$inc": {"attempts": 1}}
        return await self._imports.find_one_and_update(
            {"is_open": True, "lease_until": {"$lte": now}}, change, sort=[("lease_until", 1)]
        )

    async def renew(self, import_id: str, owner: str) -> bool:
        """Hold an import for longer; False where another holds it, or it is gone."""
        change = {"$set": {"lease_until": await self._mongo.server_time() + LEASE}}
        held = {"_id": import_id, "is_open": True, "lease_owner": owner}
        return bool(await self._imports.update_one(held, change))

    async def release(self, import_id: str, owner: str, *, pause: timedelta, attempts: int) -> None:
        """Give an import up for others to take, after a pause. It was tried so many times, or none since it got on."""
        until = await self._mongo.server_time() + pause
        change = {"$set": {"lease_owner": None, "lease_until": until}, "$min": {"attempts": attempts}}
        await self._imports.update_one({"_id": import_id, "lease_owner": owner}, change)


class PeopleStore:
    """What reviews and applications read and write of users, many at a time."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._users = mongo.collection(Collections.USERS, scope)
        self._addresses = mongo.collection(Collections.ADDRESSES, scope)
        self._domains = mongo.collection(Collections.DOMAINS, scope)
        self._sites = mongo.collection(Collections.SITES, scope)

    async def domain_names(self) -> set[str]:
        """The customer's domains."""
        return {domain["name"] async for domain in self._domains.stream({}, projection={"name": 1})}

    async def sites(self, session: Session | None = None) -> dict[str, str]:
        """The customer's sites: id and description."""
        found = self._sites.stream({}, projection={"description": 1}, session=session)
        return {site["_id"]: site["description"] async for site in found}

    async def owners(self, keys: Sequence[str], session: Session | None = None) -> dict[str, str]:
        """Whose the addresses are, of those that are somebody's."""
        found = await self._addresses.find({"key": {"$in": list(keys)}}, limit=len(keys), session=session)
        return {address["key"]: address["user_id"] for address in found}

    async def users(self, ids: Sequence[str], session: Session | None = None) -> dict[str, Document]:
        """Users by their ids."""
        found = await self._users.find({"_id": {"$in": list(ids)}}, limit=len(ids), session=session)
        return {user["_id"]: user for user in found}

    async def count_licensed(self, session: Session | None = None) -> int:
        """How many licences are in use (SPEC T6)."""
        return await self._users.count({"kind": "user"}, session=session)

    async def insert(self, users: Sequence[Document], addresses: Sequence[Document], session: Session) -> None:
        """Keep new users with their addresses."""
        if users:
            await self._users.insert_many(users, session=session)
        if addresses:
            await self._addresses.insert_many(addresses, session=session)

    async def change(self, changes: Sequence[tuple[str, int, Document]], session: Session) -> bool:
        """Change users in the versions that were reviewed: id, version, fields; False if one has moved."""
        updates = [
            ({"_id": user_id, "version": version}, {"$set": values, "$inc": {"version": 1}})
            for user_id, version, values in changes
        ]
        return await self._users.update_each(updates, session=session) == len(updates)

    async def remove_addresses(self, keys: Sequence[str], session: Session) -> None:
        """Give up addresses; within a customer a key has one owner."""
        await self._addresses.delete_many({"key": {"$in": list(keys)}}, session=session)

    # -- for the export -----------------------------------------------------------------------------------------------

    def exported(self, query: Document) -> AsyncIterator[Document]:
        """Mailbox owners by address."""
        return self._users.stream(_owners(query), sort=[("email_key", 1)], batch_size=500)

    async def has_exported(self, query: Document, count: int) -> bool:
        """Whether there are that many mailbox owners."""
        return await self._users.count(_owners(query), limit=count) >= count

    async def has_alias(self, query: Document, place: int) -> bool:
        """Whether anybody has an alias at that place, counted from 0."""
        there = {f"aliases.{place}": {"$exists": True}}
        return await self._users.count({**_owners(query), **there}, limit=1) > 0


def _owners(query: Document) -> Document:
    """Lists and public folders are groups, which no file of users holds."""
    return {"kind": {"$nin": ["list", "public_folder"]}, **query}


def octets_of(rows: Sequence[Document]) -> int:
    """How much the database keeps of them."""
    return sum(len(encode(row)) for row in rows)
