"""What a reading changes of the mirror, kept beside it in a scratch file until the reading is whole.

A reading that breaks leaves the mirror as it was, and a preview writes nothing: both are streamed as the mirror with
the changes laid over it. Memory stays flat: SQLite spills to disk, and the file is nameless, so that none is left.
"""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import mkstemp
from typing import Final, cast

from postern_common.directory_documents import DeltaDocument
from postern_sync.mirror.store import BATCH, MAX_WEIGHT, Mirror, Mirrored, Removed

_CACHE_KIB: Final = 4096
FOUND: Final = 250  # whole objects are compared, and what is stored of one may be much larger than what comes
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE change (id TEXT PRIMARY KEY, object TEXT, removed TEXT, is_new INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Overlay:
    """The changes of one reading. `object` is NULL where one goes without a trace, such as a membership."""

    def __init__(self, mirror: Mirror, folder: Path | None) -> None:
        self._mirror = mirror
        handle, name = mkstemp(prefix="postern-mirror-", dir=folder)
        os.close(handle)
        self._db = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.executescript(_SCHEMA)
        Path(name).unlink()
        self._swept: set[str] = set()

    def close(self) -> None:
        """Give the file up."""
        self._db.close()

    async def find(self, ids: Sequence[str]) -> dict[str, Mirrored]:
        """Objects as they are with the changes."""
        changed = await asyncio.to_thread(self._changed, ids)
        stored = await self._mirror.find([one for one in ids if one not in changed])
        return stored | {key: found for key, found in changed.items() if found is not None}

    async def put(self, objects: Iterable[Mirrored], gone: Iterable[str] = ()) -> None:
        """Lay changes over the mirror; what stays as it is there is none. All of them count as seen."""
        wanted = {found.external_id: found for found in objects}
        leaving = [key for key in gone if key not in wanted]
        ids = [*wanted, *leaving]
        for start in range(0, len(ids), FOUND):
            part = ids[start : start + FOUND]
            stored = await self._mirror.find(part)
            await asyncio.to_thread(self._put, [(key, wanted.get(key)) for key in part], stored)

    def _put(self, changes: Sequence[tuple[str, Mirrored | None]], stored: dict[str, Mirrored]) -> None:
        rows: list[tuple[str, str | None, str | None, int]] = []
        same: list[tuple[str]] = []
        for key, found in changes:
            before = stored.get(key)
            if found == before:
                same.append((key,))
            elif found is None:
                rows.append((key, None, None, 0))
            else:
                text = json.dumps(found.object, separators=(",", ":"))
                rows.append((key, text, found.removed, int(before is None)))
        self._db.execute("BEGIN")
        self._db.executemany("DELETE FROM change WHERE id = ?", same)
        self._db.executemany("INSERT OR REPLACE INTO change VALUES (?, ?, ?, ?)", rows)
        seen = [(key,) for key, found in changes if found is not None]
        self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", seen)
        self._db.execute("COMMIT")

    async def seen(self, ids: Sequence[str]) -> set[str]:
        """Which of the objects this reading came across."""
        return await asyncio.to_thread(self._among, "SELECT id FROM seen WHERE id IN ({})", ids)

    def forget(self, prefix: str) -> None:
        """Begin anew with the objects whose id begins so."""
        for table in ("change", "seen"):
            self._db.execute(f"DELETE FROM {table} WHERE id >= ? AND id < ?", _range(prefix))  # noqa: S608
        self._swept.discard(prefix)

    def sweep(self, prefix: str) -> None:
        """Of the objects whose id begins so, those that were not seen are gone: they were read whole."""
        self._swept.add(prefix)

    async def stream(self) -> AsyncIterator[list[Mirrored]]:
        """All objects as they are with the changes, in batches."""
        async for batch in self._mirror.stream():
            ids = [found.external_id for found in batch]
            changed = await asyncio.to_thread(self._changed, ids)
            unseen = await self._unseen(ids)
            now = [changed.get(found.external_id, found) for found in batch if found.external_id not in unseen]
            yield [found for found in now if found is not None]
        for rows in _batches(self._db.execute("SELECT id, object, removed FROM change WHERE is_new ORDER BY id")):
            yield [found for _key, found in _read(rows) if found is not None]

    async def store(self, mirror_round: str, delta: DeltaDocument, alive: Callable[[], None]) -> None:
        """Write the changes to the mirror, the last of them with where reading goes on; the overlay is empty then.

        `alive` is asked before each batch and raises where the work is to end.
        """
        writing = await self._mirror.begin(mirror_round)
        objects: list[Mirrored] = []
        gone: list[str] = []
        weight = 0
        async for one in self._changes():
            if len(objects) + len(gone) >= BATCH or weight >= MAX_WEIGHT:
                alive()
                await writing.put(objects, gone)
                objects, gone, weight = [], [], 0
            if isinstance(one, Mirrored):
                objects.append(one)
                weight += one.weight
            else:
                gone.append(one)
        alive()
        await writing.finish(objects, gone, delta)
        self._db.execute("DELETE FROM change")
        self._swept.clear()

    async def _changes(self) -> AsyncIterator[Mirrored | str]:
        """Objects that are new or changed, and the ids of those that go."""
        cursor = self._db.execute("SELECT id, object, removed FROM change ORDER BY id")
        for rows in _batches(cursor):
            for key, found in _read(rows):
                yield found if found is not None else key
        if self._swept:
            async for batch in self._mirror.stream():
                for key in sorted(await self._unseen([found.external_id for found in batch])):
                    yield key

    async def unseen(self, prefix: str) -> AsyncIterator[list[Mirrored]]:
        """Objects whose id begins so, which the mirror has and this reading did not come across."""
        async for batch in self._mirror.stream():
            candidates = [found for found in batch if found.external_id.startswith(prefix)]
            seen = await self.seen([found.external_id for found in candidates])
            left = [found for found in candidates if found.external_id not in seen]
            if left:
                yield left

    async def _unseen(self, ids: Sequence[str]) -> set[str]:
        judged = [key for key in ids if any(key.startswith(prefix) for prefix in self._swept)]
        return set(judged) - await self.seen(judged) if judged else set()

    def _changed(self, ids: Sequence[str]) -> dict[str, Mirrored | None]:
        found: dict[str, Mirrored | None] = {}
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            query = f"SELECT id, object, removed FROM change WHERE id IN ({_marks(part)})"  # noqa: S608 - question marks
            found |= dict(_read(self._db.execute(query, part).fetchall()))
        return found

    def _among(self, query: str, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            found |= {key for (key,) in self._db.execute(query.format(_marks(part)), part)}
        return found


def _marks(ids: Sequence[str]) -> str:
    return ", ".join("?" * len(ids))


def _range(prefix: str) -> tuple[str, str]:
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _batches(cursor: sqlite3.Cursor) -> Iterator[list[tuple[str, str | None, str | None]]]:
    rows: list[tuple[str, str | None, str | None]] = []
    weight = 0
    for row in cursor:
        rows.append(row)
        weight += len(row[1] or "")
        if len(rows) == BATCH or weight >= MAX_WEIGHT:
            yield rows
            rows, weight = [], 0
    if rows:
        yield rows


def _read(rows: Iterable[tuple[str, str | None, str | None]]) -> Iterator[tuple[str, Mirrored | None]]:
    for key, text, removed in rows:
        yield key, Mirrored(key, json.loads(text), cast(Removed | None, removed)) if text is not None else None
