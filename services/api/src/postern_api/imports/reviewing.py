"""The review of an uploaded file: read in pieces, compared with what is there, kept row by row (SPEC U3).

Memory does not grow with the file: its pieces go to a temporary file, the addresses seen to a scratch database, the
outcomes to the database, a few hundred rows at a time. A review that broke off begins anew.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from itertools import islice
from typing import Any, BinaryIO, Final, ParamSpec, TypeVar, cast

from postern_api.imports.rules.decoding import refused
from postern_api.imports.rules.review import (
    Existing,
    Known,
    Outcome,
    Reviewed,
    Sites,
    claims_of,
    review,
)
from postern_api.imports.rules.rows import Fault, Row
from postern_api.imports.scratch import Claims
from postern_api.imports.store import LEASE, ImportStore, PeopleStore, octets_of
from postern_api.imports.table import Table, TextSource
from postern_api.imports.workbook import WorkbookSource
from postern_api.resources import Resources
from postern_common.documents import CustomerDocument
from postern_common.ids import new_id
from postern_common.import_documents import ImportState

Document = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")
BATCH: Final = 500
MAX_STORED: Final = 256 * 1024 * 1024  # octets of what is kept of all rows, as the database encodes them
MAX_TOLD: Final = 10
MAX_TOLD_LENGTH: Final = 300


class Review:
    """The review of one import, by the worker `owner`."""

    def __init__(
        self, resources: Resources, document: Document, customer: CustomerDocument, owner: str, store: ImportStore,
        people: PeopleStore,
    ) -> None:  # fmt: skip
        self._resources = resources
        self._document = document
        self._customer = customer
        self._owner = owner
        self._store = store
        self._people = people
        self._counts: Counter[str] = Counter({outcome.value: 0 for outcome in Outcome})
        self._rows = self._octets = 0

    @property
    def _id(self) -> str:
        return str(self._document["_id"])

    async def run(self) -> None:
        """Review the whole file; raises `Rejected` where it cannot be read."""
        await self._store.advance(self._id, self._owner, {"updated_at": self._resources.now()})
        await self._store.delete_rows(self._id)
        async with self._file() as file:
            table = await _in_thread(_open, file, self._document["kind"])
            with closing(Claims()) as claims:
                domains = await self._people.domain_names()
                sites = Sites(await self._people.sites())
                rows = table.rows()
                while batch := await _in_thread(_next_batch, rows):
                    known = await self._known(batch, domains, sites)
                    await self._keep(await _in_thread(self._judge, batch, known, claims), table)
        await self._finish(table)

    @asynccontextmanager
    async def _file(self) -> AsyncIterator[BinaryIO]:
        file = cast("BinaryIO", await asyncio.to_thread(tempfile.TemporaryFile))
        try:
            async for chunk in self._store.chunks(self._id):
                await asyncio.to_thread(file.write, chunk)
            yield file
        finally:
            await asyncio.to_thread(file.close)

    async def _known(self, batch: list[Row], domains: set[str], sites: Sites) -> Known:
        keys = sorted({key for row in batch for key in row.keys})
        owners = await self._people.owners(keys) if keys else {}
        ids = sorted(set(owners.values()))
        return Known(domains, sites, owners, await self._people.users(ids) if ids else {})

    def _judge(self, batch: list[Row], known: Known, claims: Claims) -> list[Reviewed]:
        """Decide on rows in their order. Runs in a thread."""
        existing: Existing = self._document["existing"]
        reviewed = []
        for row in batch:
            reviewed.append(review(row, known, existing, claims.of))
            claims.add(claims_of(row))
        return reviewed

    async def _keep(self, reviewed: list[Reviewed], table: Table) -> None:
        self._counts.update(one.outcome.value for one in reviewed)
        self._rows += len(reviewed)
        await self._progress(table)
        await self._store.add_rows(await _in_thread(self._bounded, reviewed))

    def _bounded(self, reviewed: list[Reviewed]) -> list[Document]:
        """The rows as they are kept; refuses what becomes too much. Runs in a thread."""
        rows = [self._stored(one) for one in reviewed]
        self._octets += octets_of(rows)
        if self._octets > MAX_STORED:
            raise refused(f"What is to be kept of its rows is more than {MAX_STORED} octets. Split the file.")
        return rows

    def _stored(self, one: Reviewed) -> Document:
        user_id = new_id("usr") if one.outcome is Outcome.CREATE else one.user_id
        return {
            "_id": f"{self._id}.{one.number:07d}",
            "import_id": self._id,
            "number": one.number,
            "email": one.email,
            "outcome": one.outcome.value,
            "user_id": user_id,
            "user_version": one.user_version,
            "before": one.before or None,
            "after": one.after or None,
            "errors": _told(one.faults),
            "reason": one.reason,
            "result": None,
            "result_reason": None,
            "delete_at": self._document["delete_at"],
        }

    async def _progress(self, table: Table) -> None:
        now = self._resources.now()
        changes = {
            "counts": dict(self._counts),
            "rows": self._rows,
            "octets_read": table.octets_read() or 0,
            "warnings": table.warnings,
            "lease_until": await self._resources.mongo.server_time() + LEASE,
            "updated_at": now,
        }
        await self._store.advance(self._id, self._owner, changes)

    async def _finish(self, table: Table) -> None:
        now = self._resources.now()
        changes = {
            "state": ImportState.REVIEWED.value,
            "counts": dict(self._counts),
            "rows": self._rows,
            "octets_read": self._document["octets"],
            "warnings": [*table.warnings, *await self._licence_warning()],
            "is_open": False,
            "attempts": 0,
            "lease_owner": None,
            "reviewed_at": now,
            "updated_at": now,
        }
        await self._store.advance(self._id, self._owner, changes)
        await self._store.delete_chunks(self._id)

    async def _licence_warning(self) -> list[str]:
        allowed, wanted = self._customer["allowed_users"], self._counts[Outcome.CREATE.value]
        if allowed is None or not wanted:
            return []
        free = max(0, allowed - await self._people.count_licensed())
        if wanted <= free:
            return []
        return [f"{free} licences are free for {wanted} new users: those at the end of the file will be left out."]


async def _in_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run it in a thread. Where that is called off, the thread ends first: what it works on is closed next."""
    running = asyncio.create_task(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(running)
    finally:
        await asyncio.wait({running})


def _open(file: BinaryIO, kind: str) -> Table:
    return Table(WorkbookSource(file) if kind == "workbook" else TextSource(file))


def _next_batch(rows: Iterator[Row]) -> list[Row]:
    """The next rows. Runs in a thread."""
    return list(islice(rows, BATCH))


def _told(faults: Sequence[Fault]) -> list[Document]:
    """The first faults of a row, and how many more there are: a row of nothing else must not fill the database."""
    told = [{"column": fault.column, "message": fault.message[:MAX_TOLD_LENGTH]} for fault in faults[:MAX_TOLD]]
    if len(faults) > MAX_TOLD:
        told.append({"column": "", "message": f"There are {len(faults) - MAX_TOLD} more."})
    return told
