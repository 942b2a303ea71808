"""Who gets which address: first the primary ones, then the aliases, by the rules of `rules.ownership`.

An entry whose primary address goes to somebody else is left out, or keeps the stored one where it is a user already;
that one is then no longer free, so the primaries are decided again until nobody new keeps theirs.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from postern_sync.rules import ownership
from postern_sync.rules.entries import SyncRules
from postern_sync.rules.ownership import Claim, Holder, Ruling
from postern_sync.workspace import BATCH, Workspace, read_entry


class _Rule(Protocol):
    def __call__(self, claims: Sequence[Claim], holder: Holder | None, *, is_elsewhere: bool) -> Ruling: ...


# Entries that take part, with the stored user they are, and whether that one's primary address is theirs to change.
_TAKING_PART: Final = """
CREATE TEMP TABLE part AS
SELECT e.id AS entry_id, j.user_id AS user_id,
       CASE WHEN s.id IS NULL OR (s.source IN ('ldap', 'entra') AND e.standing = 'in') THEN 1 ELSE 0 END AS moves
FROM entry e LEFT JOIN joined j ON j.entry_id = e.id LEFT JOIN stored s ON s.id = j.user_id
WHERE e.standing = 'in' OR (j.user_id IS NOT NULL AND e.standing IN ('no_address', 'primary_domain_unmanaged'))
"""
# Claims in order of their address, with who has it. A holder that takes part and wants it no more gives up what came
# from a directory; everybody else keeps what they have.
_CLAIMS: Final = """
SELECT c.key, c.entry_id, p.user_id, h.user_id,
       h.is_directorys AND hp.entry_id IS NOT NULL AND k.entry_id IS NULL AND (hp.moves = 1 OR hs.email_key <> c.key),
       t.key IS NOT NULL
FROM claim c JOIN part p ON p.entry_id = c.entry_id
LEFT JOIN held h ON h.key = c.key
LEFT JOIN joined hj ON hj.user_id = h.user_id LEFT JOIN part hp ON hp.entry_id = hj.entry_id
LEFT JOIN stored hs ON hs.id = h.user_id
LEFT JOIN kept k ON k.entry_id = hp.entry_id AND hs.email_key = c.key
LEFT JOIN taken t ON t.key = c.key
WHERE {which} AND c.key > ?
ORDER BY c.key, c.entry_id LIMIT ?
"""
_PRIMARIES: Final = _CLAIMS.format(
    which="c.is_primary = 1 AND p.moves = 1 AND p.entry_id NOT IN (SELECT entry_id FROM kept)"
)
# A primary address that was refused is nobody's alias instead.
_ALIASES: Final = _CLAIMS.format(which="(c.is_primary = 0 OR p.moves = 0) AND c.key NOT IN (SELECT key FROM won)")


_HANDED_OVER: Final = """
INSERT INTO handed SELECT w.key, h.user_id, COALESCE(j.user_id, 'entry:' || w.entry_id)
FROM won w JOIN held h ON h.key = w.key LEFT JOIN joined j ON j.entry_id = w.entry_id
WHERE j.user_id IS NULL OR j.user_id <> h.user_id
"""


def settle(workspace: Workspace, rules: SyncRules) -> None:
    """Fill the table of winners, and note who was refused what."""
    workspace.db.execute("DROP TABLE IF EXISTS part")
    workspace.db.execute(_TAKING_PART)
    workspace.db.execute("CREATE UNIQUE INDEX temp.part_entry ON part (entry_id)")
    _settle_primaries(workspace)
    _settle_aliases(workspace, rules)


def note_handed_over(workspace: Workspace) -> None:
    """Note who gets which address from whom, once it is decided who becomes a user."""
    workspace.db.execute("DELETE FROM handed")
    workspace.db.execute(_HANDED_OVER)


def _settle_primaries(workspace: Workspace) -> None:
    refused: list[tuple[str, str, str | None, str]] = []
    while True:  # each round adds to those who keep theirs, so it ends
        workspace.db.execute("DELETE FROM won")
        refused = []
        keepers = []
        won: list[tuple[str, str, int]] = []
        for key, claims, ruling in _rulings(workspace, _PRIMARIES, ownership.rule_primary):
            if ruling.winner is not None:
                won.append((key, ruling.winner, 1))
                _write(workspace, won, at_least=BATCH)
            losers = [claim for claim in claims if claim.entry_id != ruling.winner]
            refused += [(claim.entry_id, key, claim.user_id, ruling.refusal) for claim in losers]
            keepers += [(claim.entry_id,) for claim in losers if claim.user_id is not None]
        _write(workspace, won)
        if not keepers:
            break
        workspace.db.executemany("INSERT OR IGNORE INTO kept VALUES (?)", keepers)
        for entry_id, key, user_id, refusal in refused:
            if user_id is not None:
                _note(workspace, refusal, entry_id, key)
    for entry_id, key, user_id, refusal in refused:
        if user_id is None:
            workspace.db.execute("UPDATE entry SET standing = ? WHERE id = ?", (refusal, entry_id))
            workspace.db.execute("DELETE FROM part WHERE entry_id = ?", (entry_id,))
            _note(workspace, refusal, entry_id, key)


def _settle_aliases(workspace: Workspace, rules: SyncRules) -> None:
    query = """SELECT c.key, c.entry_id, w.entry_id FROM claim c JOIN part p ON p.entry_id = c.entry_id
               JOIN won w ON w.key = c.key WHERE w.entry_id <> c.entry_id AND (c.is_primary = 0 OR p.moves = 0)"""
    for key, entry_id, _winner in list(workspace.rows(query)):
        _note(workspace, ownership.ALIAS_IS_PRIMARY, entry_id, key)
    won: list[tuple[str, str, int]] = []
    for key, claims, ruling in _rulings(workspace, _ALIASES, ownership.rule_alias):
        domain = key.rpartition("@")[2]
        if key in rules.excepted_keys or domain not in rules.managed:
            if domain not in rules.managed:
                for claim in claims:
                    _note(workspace, "alias_domain_unmanaged", claim.entry_id, key)
            continue
        if ruling.winner is not None:
            won.append((key, ruling.winner, 0))
            _write(workspace, won, at_least=BATCH)
        for claim in claims:
            if claim.entry_id != ruling.winner:
                _note(workspace, ruling.refusal, claim.entry_id, key)
    _write(workspace, won)


def _write(workspace: Workspace, won: list[tuple[str, str, int]], *, at_least: int = 0) -> None:
    """Write winners once there are so many: what is decided of other addresses does not depend on them."""
    if len(won) >= at_least:
        workspace.db.execute("BEGIN")
        workspace.db.executemany("INSERT OR IGNORE INTO won VALUES (?, ?, ?)", won)
        workspace.db.execute("COMMIT")
        won.clear()


def _rulings(workspace: Workspace, query: str, rule: _Rule) -> Iterator[tuple[str, Sequence[Claim], Ruling]]:
    for key, found in _by_key(workspace, query):
        claims = [Claim(row[1], row[2]) for row in found]
        _, _, _, holder_id, gives_up, is_elsewhere = found[0]
        holder = Holder(holder_id, keeps=not gives_up) if holder_id is not None else None
        yield key, claims, rule(claims, holder, is_elsewhere=bool(is_elsewhere))


def _by_key(workspace: Workspace, query: str) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """All rows of a key at a time, read in pages: what is decided is written between them."""
    last, limit = "", BATCH
    while True:
        workspace.check()
        page = list(workspace.rows(query, (last, limit)))
        keys = [(key, list(rows)) for key, rows in itertools.groupby(page, key=lambda row: str(row[0]))]
        is_last = len(page) < limit
        if not is_last and len(keys) == 1:
            limit *= 2  # one address with more claimants than fit
            continue
        for key, rows in keys if is_last else keys[:-1]:
            yield key, rows
            last = key
        if is_last:
            return


def _note(workspace: Workspace, reason: str, entry_id: str, key: str) -> None:
    row = next(workspace.rows("SELECT data FROM entry WHERE id = ?", (entry_id,)))
    entry = read_entry(row[0])
    query = (
        "SELECT data FROM entry WHERE id IN (SELECT entry_id FROM claim WHERE key = ?) AND id <> ? ORDER BY id LIMIT 1"
    )
    rival = next(workspace.rows(query, (key, entry_id)), None)
    address = next(mailbox.address for mailbox in (entry.primary, *entry.aliases) if mailbox and mailbox.key == key)
    data = {
        "name": entry.name,
        "address": address,
        "other": read_entry(rival[0]).name if rival else "",
        "detail": "",
    }
    workspace.db.execute("INSERT INTO skip (reason, data) VALUES (?, ?)", (reason, json.dumps(data)))
