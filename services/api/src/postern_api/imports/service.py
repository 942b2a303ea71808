"""Imports of users: a file is kept, reviewed in the background, looked at, and applied or forgotten (SPEC U3)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from postern_api.customers.store import CustomerStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.pagination import Order
from postern_api.http.problems import conflict, limit_reached, not_found
from postern_api.imports.rules.decoding import kind_of
from postern_api.imports.rules.review import Outcome
from postern_api.imports.schemas import ROW_SORTS, SORTS, ImportList, ImportRowList
from postern_api.imports.store import CHUNK_BYTES, FREE, ImportStore
from postern_api.tenancy import Tenant
from postern_common.ids import new_id
from postern_common.import_documents import ImportState
from postern_common.mongo import Session

Document = dict[str, Any]
KEPT: Final = timedelta(days=14)
HEAD_BYTES: Final = 4096
MAX_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Sent:
    """What was uploaded: its name, its pieces, and what happens to users who are there."""

    name: str
    pieces: AsyncIterator[bytes]
    existing: Literal["update", "skip"]


class Imports:
    """The imports of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = ImportStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: ImportList) -> tuple[list[Document], str | None]:
        """A page of them."""
        query: Document = {} if listing.state is None else {"state": listing.state}
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SORTS))

    async def get(self, import_id: str) -> Document:
        """One import."""
        found = await self._store.get(import_id)
        if found is None:
            raise not_found()
        return found

    async def rows(self, import_id: str, listing: ImportRowList) -> tuple[list[Document], str | None]:
        """A page of an import's rows."""
        await self.get(import_id)
        query: Document = {"import_id": import_id}
        query |= {name: value for name in ("outcome", "result") if (value := getattr(listing, name)) is not None}
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.rows, query, listing, Order.of(listing.sort, ROW_SORTS))

    async def add(self, sent: Sent) -> Document:
        """Keep a file and ask for its review. What is no text and no workbook is refused at once."""
        now = self._resources.now()
        import_id = new_id("imp")
        head, octets, number = b"", 0, 0
        async for chunk in _chunks(sent.pieces):
            head = head or chunk[:HEAD_BYTES]
            if not number:
                kind_of(head, sent.name)
            await self._store.add_chunk(import_id, number, chunk, now + KEPT)
            octets, number = octets + len(chunk), number + 1
        document: Document = {
            "_id": import_id,
            "name": "".join(char for char in sent.name if char.isprintable())[:MAX_NAME],
            "kind": kind_of(head, sent.name),
            "existing": sent.existing,
            "state": ImportState.REVIEWING.value,
            "reason": None,
            "warnings": [],
            "counts": {outcome.value: 0 for outcome in Outcome},
            "results": {"created": 0, "updated": 0, "stale": 0, "left_out": 0},
            "octets": octets,
            "octets_read": 0,
            "rows": 0,
            "applied_through": 0,
            "is_open": True,
            "attempts": 0,
            "lease_owner": None,
            "lease_until": FREE,
            "created_by": self._tenant.principal.id,
            "applied_by": None,
            "created_at": now,
            "updated_at": now,
            "reviewed_at": None,
            "finished_at": None,
            "delete_at": now + KEPT,
            "version": 1,
        }
        await self._insert(document)
        return document

    async def _insert(self, document: Document) -> None:
        limit = self._resources.settings.api_max_imports

        async def work(session: Session) -> None:
            if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
                raise not_found()
            if await self._store.has(limit, session):
                raise limit_reached("imports", limit)
            await self._store.insert(document, session)

        try:
            await self._resources.transact(work)
        except BaseException:
            await self._store.delete_parts(document["_id"])
            raise

    async def apply(self, import_id: str) -> Document:
        """Have saved what was reviewed."""
        document = await self.get(import_id)
        if document["state"] != ImportState.REVIEWED:
            raise conflict("wrong-state", f"The import is {document['state']}, not reviewed.")
        changes = {
            "state": ImportState.APPLYING.value,
            "is_open": True,
            "attempts": 0,
            "lease_owner": None,
            "lease_until": FREE,
            "applied_by": self._tenant.principal.id,
            "updated_at": self._resources.now(),
        }

        async def work(session: Session) -> None:
            if not await self._store.change(import_id, document["version"], changes, session):
                raise conflict("wrong-state", "The import is being applied, or is gone.")

        await self._resources.transact(work)
        return document | changes | {"version": document["version"] + 1}

    async def delete(self, import_id: str, condition: IfMatch) -> None:
        """Forget an import, its file and its rows; what it saved stays."""
        await condition.settle(lambda: self._delete(import_id, condition))
        await self._store.delete_parts(import_id)

    async def _delete(self, import_id: str, condition: IfMatch) -> None:
        document = await self.get(import_id)
        condition.check(document["version"])
        if document["state"] == ImportState.APPLYING:
            raise conflict("wrong-state", "The import is being applied; wait until that is done.")

        async def work(session: Session) -> None:
            if not await self._store.delete(import_id, document["version"], session):
                raise stale()

        await self._resources.transact(work)


async def _chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces of the size that they are kept in; one empty piece for an empty file."""
    kept = bytearray()
    count = 0
    async for piece in pieces:
        kept += piece
        while len(kept) >= CHUNK_BYTES:
            yield bytes(kept[:CHUNK_BYTES])
            del kept[:CHUNK_BYTES]
            count += 1
    if kept or not count:
        yield bytes(kept)
