"""Which row of the file named an address first, kept on disk: 100,000 rows have a few hundred thousand addresses."""

import sqlite3
from collections.abc import Iterable

from postern_api.imports.rules.review import Claim


class Claims:
    """The addresses that rows have named so far. Used by one thread at a time."""

    def __init__(self) -> None:
        # An empty name is a temporary file that goes with the connection (SQLite: "Temporary Databases").
        self._scratch = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._scratch.execute("PRAGMA journal_mode = OFF")
        self._scratch.execute("PRAGMA synchronous = OFF")
        self._scratch.execute("PRAGMA cache_size = -8192")
        self._scratch.execute(
            "CREATE TABLE claims (key TEXT PRIMARY KEY, number INTEGER NOT NULL, is_primary INTEGER NOT NULL, "
            "is_good INTEGER NOT NULL) WITHOUT ROWID"
        )

    def of(self, key: str) -> Claim | None:
        """Who named the address first."""
        query = "SELECT number, is_primary, is_good FROM claims WHERE key = ?"
        found = self._scratch.execute(query, (key,)).fetchone()
        return None if found is None else Claim(found[0], bool(found[1]), bool(found[2]))

    def add(self, claims: Iterable[tuple[str, Claim]]) -> None:
        """Note a row's addresses. Earlier claims stand; but a good row takes what a faulty one named."""
        self._scratch.executemany(
            "INSERT INTO claims VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET number = excluded.number, "
            "is_primary = excluded.is_primary, is_good = excluded.is_good WHERE NOT is_good AND excluded.is_good",
            [(key, claim.number, claim.is_primary, claim.is_good) for key, claim in claims],
        )

    def close(self) -> None:
        """Forget everything."""
        self._scratch.close()
