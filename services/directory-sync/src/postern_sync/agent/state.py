"""What the agent remembers: a hash of each record that the server has, the reading under way, and pages not yet sent.

A SQLite file that nobody else may read. Losing it costs one full round and nothing else. `base` is what the server's
mirror stands at as far as is known for sure; `scan` is what was read last, and becomes the base once the server goes on
from it. Used by one thread at a time.
"""

import fcntl
import gzip
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from postern_sync.rules.agent_records import (
    ENTRY,
    MAX_ID,
    MAX_REF,
    MAX_REFS,
    PRESENT,
    Digest,
    canonical,
    entry_hash,
    entry_key,
    member_key,
    members_prefix,
    membership_of,
    sendable,
)
from postern_sync.rules.entries import Entry

Json = dict[str, Any]
FORMAT: Final = 1
PAGE_BYTES: Final = 512 * 1024
PAGE_RECORDS: Final = 2000
_SCHEMA: Final = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA cache_size = -8192;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS base (key TEXT PRIMARY KEY, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scan (key TEXT PRIMARY KEY, hash TEXT NOT NULL, body TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS page (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
PRAGMA user_version = {FORMAT};
"""


_RUINED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Ruined(Exception):
    """What is in the file is of no use."""


class Busy(Exception):
    """Another agent works with this state: two that read into one would tell of a directory that nobody read."""


def is_ruined(error: Exception) -> bool:
    """Whether the file has to go. One that is locked, or on a disk that is full, is not ruined."""
    return isinstance(error, Ruined) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _RUINED


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other agent from the state in `folder`. Raises `Busy`."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Busy from None
    finally:
        os.close(handle)


def seen(folder: Path, *names: str) -> dict[str, Any]:
    """What is noted by these names in a state that may be in use; nothing is written."""
    path = folder / "state.sqlite"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
        marks = ", ".join("?" * len(names))
        query = f"SELECT name, value FROM meta WHERE name IN ({marks})"  # noqa: S608 - question marks
        return {name: json.loads(value) for name, value in db.execute(query, names)}


class State:
    """The state in `folder`; one that is ruined is begun anew."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.sqlite"
        try:
            self._db = self._open()
        except (sqlite3.DatabaseError, Ruined) as error:
            if not is_ruined(error):
                raise
            self._db = self._opened_anew()

    def _open(self) -> sqlite3.Connection:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found not in {0, FORMAT} or db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise Ruined
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _opened_anew(self) -> sqlite3.Connection:
        for ending in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        return self._open()

    def begin_anew(self) -> None:
        """Forget everything, with the file: it is ruined."""
        self._db.close()
        self._db = self._opened_anew()

    def close(self) -> None:
        """Give the file up."""
        self._db.close()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """All of it is written or nothing, also where the disk is full in the midst of it."""
        self._db.execute("BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise

    # --- notes ---

    def note(self, name: str, value: Any) -> None:
        """Remember something by name."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def noted(self, name: str) -> Any:
        """What is remembered, or None."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if found is None else json.loads(found[0])

    # --- reading: what a source puts ---

    def put(self, entries: list[Entry]) -> None:
        """Take a page of entries."""
        records = (_record(entry) for entry in entries)
        texts = ((entry_key(record["id"]), canonical(record)) for record in records)
        self._many(
            "INSERT OR REPLACE INTO scan VALUES (?, ?, ?)", [(key, entry_hash(text), text) for key, text in texts]
        )

    def put_members(self, group_id: str, refs: list[str]) -> None:
        """Take some of a group's members."""
        group = sendable(group_id, MAX_ID)
        rows = [(member_key(group, sendable(ref, MAX_REF)), PRESENT) for ref in refs]
        self._many("INSERT OR IGNORE INTO scan (key, hash) VALUES (?, ?)", rows)

    def restart_members(self, group_id: str) -> None:
        """Forget what was taken of a group's members."""
        prefix = members_prefix(sendable(group_id, MAX_ID))
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        self._db.execute("DELETE FROM scan WHERE key >= ? AND key < ?", (prefix, after))

    def progress(self, *, phase: str, read: int, total: int | None = None) -> None:
        """Nobody is told: the server learns it from the pages."""

    def _many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        with self._whole():
            self._db.executemany(statement, rows)

    # --- rounds ---

    def known(self) -> list[str]:
        """The rounds from which the server may go on: the one sent last, and the one before."""
        return [found for found in (self.noted("scan_round"), self.noted("base_round")) if found]

    def prepared(self, run_id: str) -> Json | None:
        """The round that was prepared for a run and is not wholly sent."""
        found: Json | None = self.noted("prepared")
        return found if found is not None and found["run_id"] == run_id else None

    def settle(self, base: str | None) -> None:
        """Take what the server goes on from as the base, and begin a reading."""
        with self._whole():
            if base is not None and base == self.noted("scan_round"):
                self._db.execute("DELETE FROM base")
                self._db.execute("INSERT INTO base SELECT key, hash FROM scan")
                self.note("base_round", base)
            elif base is None:
                self._db.execute("DELETE FROM base")
                self.note("base_round", None)
            self._db.execute("DELETE FROM scan")
            self._db.execute("DELETE FROM page")
            self.note("scan_round", None)
            self.note("prepared", None)

    def prepare(self, run_id: str, upload_id: str, begun: Json, report: Json) -> Json:
        """Work out the pages of a round and its statement; what was prepared before is forgotten."""
        with self._whole():
            self._db.execute("DELETE FROM page")
            pages = 0
            for page in _pages(self._changes()):
                data = gzip.compress(json.dumps(page, separators=(",", ":")).encode(), compresslevel=6, mtime=0)
                self._db.execute("INSERT INTO page VALUES (?, ?)", (pages, data))
                pages += 1
            digest = self._digest()
            statement = {
                "upload_id": upload_id, "pages": pages, "records": digest.records, "digest": digest.text, **report
            }  # fmt: skip
            found = {"run_id": run_id, "round_id": begun["id"], "base": begun["base"], "statement": statement}
            self.note("prepared", found)
        return found

    def page(self, number: int) -> bytes:
        """A prepared page."""
        (data,) = self._db.execute("SELECT data FROM page WHERE number = ?", (number,)).fetchone()
        return bytes(data)

    def sent(self, round_id: str) -> None:
        """The round is wholly sent: the server may go on from it."""
        with self._whole():
            self._db.execute("DELETE FROM page")
            self._db.execute("UPDATE scan SET body = NULL WHERE body IS NOT NULL")
            self.note("scan_round", round_id)
            self.note("prepared", None)
        with suppress(sqlite3.OperationalError):  # a reader such as `status` is in the way; next time then
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _digest(self) -> Digest:
        digest = Digest()
        with closing(self._db.cursor()) as cursor:
            for key, content in cursor.execute("SELECT key, hash FROM scan"):
                digest.add(key, content)
        return digest

    def _changes(self) -> Iterator[tuple[str, str | None, bool]]:
        """Key and body of what is new or changed, then of what is gone."""
        changed = """
            SELECT scan.key, scan.body FROM scan LEFT JOIN base ON base.key = scan.key
            WHERE base.hash IS NULL OR base.hash <> scan.hash ORDER BY scan.key
        """
        gone = """
            SELECT base.key FROM base LEFT JOIN scan ON scan.key = base.key WHERE scan.key IS NULL ORDER BY base.key
        """
        with closing(self._db.cursor()) as cursor:
            for key, body in cursor.execute(changed):
                yield key, body, True
        with closing(self._db.cursor()) as cursor:
            for (key,) in cursor.execute(gone):
                yield key, None, False


def _record(entry: Entry) -> Json:
    refs = [sendable(ref, MAX_REF) for ref in entry.refs[:MAX_REFS]]
    names = {"id": sendable(entry.id, MAX_ID), "name": sendable(entry.name, MAX_REF)}
    return entry.to_json() | names | {"refs": refs}


def _pages(changes: Iterator[tuple[str, str | None, bool]]) -> Iterator[Json]:
    """Pages that are neither long nor large, in the order of the keys."""
    page, records, octets = _empty(), 0, 0
    for key, body, is_there in changes:
        size = len(key) + len(body or "")
        if records and (records >= PAGE_RECORDS or octets + size > PAGE_BYTES):
            yield _sealed(page)
            page, records, octets = _empty(), 0, 0
        _take(page, key, body, is_there=is_there)
        records += 1
        octets += size
    if records:
        yield _sealed(page)


def _empty() -> Json:
    return {"entries": [], "removed": [], "members": {}}


def _take(page: Json, key: str, body: str | None, *, is_there: bool) -> None:
    if key.startswith(ENTRY):
        if is_there and body is not None:
            page["entries"].append(json.loads(body))
        else:
            page["removed"].append(key.removeprefix(ENTRY))
        return
    group_id, ref = membership_of(key)
    change = page["members"].setdefault(group_id, {"group_id": group_id, "added": [], "removed": []})
    change["added" if is_there else "removed"].append(ref)


def _sealed(page: Json) -> Json:
    return page | {"members": list(page["members"].values())}
