"""The way out: users as a file that an import takes back as the same data, and samples to begin with (SPEC U3)."""

import asyncio
import csv
import io
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, BinaryIO, Final, cast

from postern_api.http.problems import conflict, rate_limited
from postern_api.imports.rules.cells import guard
from postern_api.imports.rules.columns import TEXTS
from postern_api.imports.rules.review import Sites
from postern_api.imports.rules.rows import MAX_ALIASES, export_cells, export_header
from postern_api.imports.store import PeopleStore
from postern_api.imports.workbook_writer import workbook_of, write_workbook
from postern_api.imports.workbook_xml import MAX_ROW
from postern_api.tenancy import Tenant

Document = dict[str, Any]
BATCH: Final = 200
BATCH_SECONDS: Final = 60.0
PIECE: Final = 256 * 1024
RETRY_SECONDS: Final = 10.0
MAX_USERS: Final = MAX_ROW - 1  # the first row names the columns
MARK: Final = "\ufeff"  # without it Excel takes a CSV file for Windows-1252
SAMPLE: Final = (
    ("email", "first_name", "last_name", "home_phone", "mobile", "company", "department", "notes", "alias1", "alias2"),
    (
        "ann.lee@example.com", "Ann", "Lee", "+44 20 7946 0000", "+44 7700 900000", "Example Ltd", "Sales",
        "Back in May", "ann@example.com", "a.lee@example.com",
    ),
    ("bob.o'brien@example.com", "Bob", "O'Brien", "", "", "Example Ltd", "Support", "", "bob@example.com", ""),
    ("zoe.mueller@example.com", "Zoë", "Müller", "", "", "Example Ltd", "", "", "", ""),
)  # fmt: skip


class Export:
    """The users of one customer as rows."""

    def __init__(self, tenant: Tenant, query: Document) -> None:
        self._people = PeopleStore(tenant.resources.mongo, tenant.scope)
        self._query = query

    async def csv(self) -> AsyncIterator[bytes]:
        """A CSV file, piece by piece."""
        first = True
        async for rows in self._rows():
            yield (MARK if first else "").encode() + csv_of(rows)
            first = False

    async def xlsx(self, places: asyncio.Semaphore) -> AsyncIterator[bytes]:
        """A workbook, whole on disk before it is answered: its directory stands at its end. `places` bounds how many
        are written at once; refuses one more, and one that has more rows than a workbook holds.
        """
        if places.locked():
            raise rate_limited("Too many workbooks are being written. Try again, or take CSV.", RETRY_SECONDS)
        async with places:
            if await self._people.has_exported(self._query, MAX_USERS + 1):
                message = f"A workbook holds {MAX_USERS} users at most, and these are more. Take CSV."
                raise conflict("limit-reached", message)
            file = cast("BinaryIO", await asyncio.to_thread(tempfile.TemporaryFile))
            try:
                await self._write_workbook(file)
            except BaseException:
                file.close()
                raise
        return _pieces(file)

    async def _write_workbook(self, file: BinaryIO) -> None:
        loop = asyncio.get_running_loop()
        batches = self._rows()
        is_called_off = False

        async def next_batch() -> list[list[str]] | None:
            return None if is_called_off else await anext(batches, None)

        def rows() -> Iterator[Sequence[str]]:
            # The thread that writes asks the loop for more: neither holds more than one batch.
            # One that asks a loop which has ended gives up, rather than hold up the end of the process.
            while (batch := asyncio.run_coroutine_threadsafe(next_batch(), loop).result(BATCH_SECONDS)) is not None:
                yield from batch

        writing = asyncio.create_task(asyncio.to_thread(write_workbook, file, rows()))
        try:
            await asyncio.shield(writing)
        finally:
            # The place is free once the thread has ended, which one that is called off does for want of rows.
            is_called_off = True
            await asyncio.wait({writing})

    async def _rows(self) -> AsyncIterator[list[list[str]]]:
        """The names of the columns, then users by address, guarded against formulas."""
        width = await self._most_aliases()
        sites = Sites(await self._people.sites())
        batch = [export_header(width)]
        async for user in self._people.exported(self._query):
            aliases = [alias["address"] for alias in user["aliases"]]
            texts = {name: user[name] for name in TEXTS}
            cells = export_cells(texts, user["email"], aliases, width, sites.name_of(user["site_id"]))
            batch.append([guard(cell) for cell in cells])
            if len(batch) >= BATCH:
                yield batch
                batch = []
        yield batch

    async def _most_aliases(self) -> int:
        """How many columns of aliases are needed."""
        low, high = 0, 1
        while high <= MAX_ALIASES and await self._people.has_alias(self._query, high - 1):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            if await self._people.has_alias(self._query, middle - 1):
                low = middle
            else:
                high = middle
        return low


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        await asyncio.to_thread(file.seek, 0)
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()


def csv_of(rows: Iterable[Iterable[str]]) -> bytes:
    """Rows as CSV (RFC 4180)."""
    text = io.StringIO(newline="")
    # Every cell in quotes: a list separator of the reader's own would begin a cell, and with it a formula, elsewhere.
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


@cache
def sample_csv() -> bytes:
    """Three users, to begin with."""
    return MARK.encode() + csv_of([guard(cell) for cell in row] for row in SAMPLE)


@cache
def sample_xlsx() -> bytes:
    """The same as a workbook."""
    return workbook_of([guard(cell) for cell in row] for row in SAMPLE)
