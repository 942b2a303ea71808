"""A run's scratch file: what was read of the directory, the stored users beside it, and the plan between them.

It is a SQLite database that lives as long as the run (docs/decisions/0007-directory-scratch.md): a table that spills to
disk, so that memory stays flat whatever the directory's size. Nothing in it needs to survive a crash. Used by one
thread at a time.
"""

import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, cast

from postern_common.directory_documents import SkippedDocument
from postern_sync.rules.entries import Entry, Mailbox, StoredAlias, StoredDeleted, StoredUser
from postern_sync.rules.plan import PlanItem, Skip
from postern_sync.source import Cancelled

BATCH: Final = 1000
_CACHE_KIB: Final = 8192
_ENTRY_FIELDS: Final = tuple(field.name for field in fields(Entry))
_USER_FIELDS: Final = tuple(field.name for field in fields(StoredUser))

_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
CREATE TABLE entry (
    id TEXT PRIMARY KEY, standing TEXT, kind TEXT NOT NULL, immutable_id TEXT, primary_key TEXT, data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX entry_immutable ON entry (immutable_id) WHERE immutable_id IS NOT NULL;
CREATE INDEX entry_primary ON entry (primary_key) WHERE primary_key IS NOT NULL;
CREATE TABLE claim (
    key TEXT NOT NULL, entry_id TEXT NOT NULL, is_primary INTEGER NOT NULL, domain TEXT NOT NULL,
    PRIMARY KEY (key, entry_id)
) WITHOUT ROWID;
CREATE INDEX claim_entry ON claim (entry_id);
CREATE TABLE ref (ref TEXT NOT NULL, entry_id TEXT NOT NULL, PRIMARY KEY (ref, entry_id)) WITHOUT ROWID;
CREATE INDEX ref_entry ON ref (entry_id);
CREATE TABLE member (group_id TEXT NOT NULL, ref TEXT NOT NULL, PRIMARY KEY (group_id, ref)) WITHOUT ROWID;
CREATE TABLE stored (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, kind TEXT NOT NULL, external_id TEXT, immutable_id TEXT,
    email_key TEXT NOT NULL, data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX stored_external ON stored (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX stored_immutable ON stored (immutable_id) WHERE immutable_id IS NOT NULL;
CREATE INDEX stored_email ON stored (email_key);
CREATE TABLE held (key TEXT PRIMARY KEY, user_id TEXT NOT NULL, is_directorys INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE stored_member (
    group_id TEXT NOT NULL, member_id TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (group_id, member_id)
) WITHOUT ROWID;
CREATE TABLE deleted (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, external_id TEXT, immutable_id TEXT, email_key TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX deleted_external ON deleted (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX deleted_immutable ON deleted (immutable_id) WHERE immutable_id IS NOT NULL;
CREATE INDEX deleted_email ON deleted (email_key);
CREATE TABLE known (key TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE taken (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE joined (entry_id TEXT PRIMARY KEY, user_id TEXT NOT NULL UNIQUE) WITHOUT ROWID;
CREATE TABLE ambiguous (user_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE restoring (entry_id TEXT PRIMARY KEY, user_id TEXT NOT NULL UNIQUE) WITHOUT ROWID;
CREATE TABLE kept (entry_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE won (key TEXT PRIMARY KEY, entry_id TEXT NOT NULL, is_primary INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX won_entry ON won (entry_id);
CREATE TABLE handed (key TEXT PRIMARY KEY, user_id TEXT NOT NULL, new_owner TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX handed_user ON handed (user_id);
CREATE TABLE unadded (entry_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE left_out (key TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE given_up (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE item (seq INTEGER PRIMARY KEY, node TEXT NOT NULL, grp INTEGER NOT NULL DEFAULT 0, data TEXT NOT NULL);
CREATE TABLE skip (seq INTEGER PRIMARY KEY, reason TEXT NOT NULL, data TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far reading is: a word for what is read, how many entries so far, and of how many where that is known."""

    phase: str
    read: int
    total: int | None


def _nothing(_progress: Progress) -> None:
    return


def _never() -> bool:
    return False


class Workspace:
    """The scratch of one run; takes what a `Source` reads."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        on_progress: Callable[[Progress], None] = _nothing,
        is_cancelled: Callable[[], bool] = _never,
    ) -> None:
        self.db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self.db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self.db.executescript(_SCHEMA)
        self._on_progress = on_progress
        self._is_cancelled = is_cancelled

    def close(self) -> None:
        """Give the file up; whoever named its path removes it."""
        self.db.close()

    # --- what a source reads ---

    def check(self) -> None:
        """Raises `Cancelled` where the run was."""
        if self._is_cancelled():
            raise Cancelled

    def put(self, entries: list[Entry]) -> None:
        """Take a page of entries; one whose id came before replaces it. Raises `Cancelled`."""
        self.check()
        ids = [(entry.id,) for entry in entries]
        self.db.execute("BEGIN")
        self.db.executemany("DELETE FROM claim WHERE entry_id = ?", ids)
        self.db.executemany("DELETE FROM ref WHERE entry_id = ?", ids)
        self.db.executemany(
            "INSERT OR REPLACE INTO entry (id, kind, immutable_id, primary_key, data) VALUES (?, ?, ?, ?, ?)",
            [_entry_row(entry) for entry in entries],
        )
        self.db.executemany(
            "INSERT OR IGNORE INTO claim VALUES (?, ?, ?, ?)", [row for entry in entries for row in _claims(entry)]
        )
        self.db.executemany(
            "INSERT OR IGNORE INTO ref VALUES (?, ?)", [(ref, entry.id) for entry in entries for ref in entry.refs]
        )
        self.db.execute("COMMIT")

    def put_members(self, group_id: str, refs: list[str]) -> None:
        """Take some of a group's members, by what groups name them by. Raises `Cancelled`."""
        self.check()
        self.db.execute("BEGIN")
        self.db.executemany("INSERT OR IGNORE INTO member VALUES (?, ?)", [(group_id, ref) for ref in refs])
        self.db.execute("COMMIT")

    def restart_members(self, group_id: str) -> None:
        """Forget what was taken of a group's members."""
        self.db.execute("DELETE FROM member WHERE group_id = ?", (group_id,))

    def progress(self, *, phase: str, read: int, total: int | None = None) -> None:
        """Tell how far it is. Raises `Cancelled`."""
        self.check()
        self._on_progress(Progress(phase, read, total))

    # --- what the database has ---

    def put_stored(self, users: Iterable[StoredUser]) -> None:
        """Take stored users with their addresses."""
        for batch in _batches(users):
            self.db.execute("BEGIN")
            self.db.executemany(
                "INSERT OR REPLACE INTO stored VALUES (?, ?, ?, ?, ?, ?, ?)", [_stored_row(user) for user in batch]
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?)", [row for user in batch for row in _held(user)]
            )
            self.db.execute("COMMIT")

    def put_stored_members(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Take stored memberships as group id, member id, source."""
        self._put("INSERT OR REPLACE INTO stored_member VALUES (?, ?, ?)", rows)

    def put_deleted(self, users: Iterable[StoredDeleted]) -> None:
        """Take deleted users who can be restored."""
        rows = ((user.id, user.kind, user.external_id, user.immutable_id, user.email_key) for user in users)
        self._put("INSERT OR REPLACE INTO deleted VALUES (?, ?, ?, ?, ?)", rows)

    def put_known(self, rows: Iterable[tuple[str, str]]) -> None:
        """Take addresses that are known without a user, with the reason."""
        self._put("INSERT OR REPLACE INTO known VALUES (?, ?)", rows)

    def put_taken(self, keys: Iterable[str]) -> None:
        """Take those of `wanted_keys` that another customer has in a verified domain."""
        self._put("INSERT OR IGNORE INTO taken VALUES (?)", ((key,) for key in keys))

    def wanted_keys(self) -> Generator[str, None, None]:
        """Addresses that entries claim and that no stored user of this customer has."""
        for (key,) in self.rows("SELECT DISTINCT key FROM claim WHERE key NOT IN (SELECT key FROM held) ORDER BY key"):
            yield key

    def _put(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        for batch in _batches(rows):
            self.db.execute("BEGIN")
            self.db.executemany(statement, batch)
            self.db.execute("COMMIT")

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, as they come."""
        cursor = self.db.cursor()
        cursor.arraysize = BATCH
        yield from cursor.execute(query, values)

    # --- the plan ---

    def items(self) -> Generator[PlanItem, None, None]:
        """The plan's items: those that hand addresses to each other stand together."""
        query = "SELECT seq, grp, data FROM item ORDER BY grp, seq"
        for number, (_seq, group, data) in enumerate(self.rows(query), start=1):
            found = json.loads(data)
            for name in ("gained", "dropped"):
                found[name] = tuple(found[name])
            yield PlanItem(**(found | {"seq": number, "group": group}))

    def skip_summary(self, limit: int) -> dict[str, SkippedDocument]:
        """Why entries were left out: how many, and the first `limit` of each reason."""
        found: dict[str, SkippedDocument] = {}
        for reason, count in self.rows("SELECT reason, COUNT(*) FROM skip GROUP BY reason ORDER BY reason"):
            query = "SELECT data FROM skip WHERE reason = ? ORDER BY seq LIMIT ?"
            examples = [json.loads(data) for (data,) in self.rows(query, (reason, limit))]
            found[reason] = cast(SkippedDocument, {"count": count, "examples": examples})
        return found

    def skips(self) -> Generator[Skip, None, None]:
        """Everything that was left out."""
        for reason, data in self.rows("SELECT reason, data FROM skip ORDER BY seq"):
            yield Skip(reason, **json.loads(data))


def _batches(things: Iterable[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for thing in things:
        batch.append(thing)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    primary = entry.primary.key if entry.primary else None
    data = {name: getattr(entry, name) for name in _ENTRY_FIELDS}
    data["primary"] = _boxed(entry.primary) if entry.primary else None
    data["aliases"] = [_boxed(alias) for alias in entry.aliases]
    return entry.id, entry.kind, entry.immutable_id, primary, _dump(data)


def read_entry(data: str) -> Entry:
    """An entry from its row; its addresses were parsed when it was put."""
    found = json.loads(data)
    found["primary"] = Mailbox(*found["primary"]) if found["primary"] else None
    found["aliases"] = tuple(Mailbox(*alias) for alias in found["aliases"])
    found["refs"] = tuple(found["refs"])
    found["faults"] = tuple(found["faults"])
    return Entry(**found)


def _boxed(mailbox: Mailbox) -> tuple[str, str, str]:
    return mailbox.address, mailbox.key, mailbox.domain


def _dump(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))


def _claims(entry: Entry) -> Iterator[tuple[str, str, int, str]]:
    if entry.primary is not None:
        yield entry.primary.key, entry.id, 1, entry.primary.domain
    for alias in entry.aliases:
        yield alias.key, entry.id, 0, alias.domain


def _stored_row(user: StoredUser) -> tuple[Any, ...]:
    data = {name: getattr(user, name) for name in _USER_FIELDS}
    data["primary"] = _boxed(user.primary)
    data["aliases"] = [(*_boxed(alias.mailbox), alias.source) for alias in user.aliases]
    return user.id, user.source, user.kind, user.external_id, user.immutable_id, user.primary.key, _dump(data)


def _held(user: StoredUser) -> Iterator[tuple[str, str, int]]:
    is_directorys = user.source in {"ldap", "entra"}
    yield user.primary.key, user.id, int(is_directorys)
    for alias in user.aliases:
        yield alias.mailbox.key, user.id, int(alias.source in {"ldap", "entra"})


def read_user(data: str) -> StoredUser:
    """A stored user from its row."""
    found = json.loads(data)
    found["primary"] = Mailbox(*found["primary"])
    found["aliases"] = tuple(StoredAlias(Mailbox(*alias[:3]), alias[3]) for alias in found["aliases"])
    return StoredUser(**found)
