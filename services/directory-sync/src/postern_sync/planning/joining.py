"""Which stored user an entry is: by identity, by immutable identity, by primary address (BEHAVIOURS 3.1).

Never by display name. A rename or a move keeps the identity; a person who was made anew in the directory has another
one and is recognised by the address; the immutable identity carries users over to another provider (B-O5). An object
that is removed or switched off comes last: the one that was made in its place is the user.
"""

from typing import Final

from postern_sync.rules.entries import Entry, SyncRules
from postern_sync.rules.standing import DISABLED, HARD_DELETED, SOFT_DELETED, standing
from postern_sync.workspace import BATCH, Workspace, read_entry

_GONE: Final = f"'{DISABLED}', '{SOFT_DELETED}', '{HARD_DELETED}'"
_IS_GONE: Final = f"(e.standing IN ({_GONE}))"
_FREE: Final = "e.id NOT IN (SELECT entry_id FROM joined) AND s.id NOT IN (SELECT user_id FROM joined)"
# In the two passes `is_gone` tells those who are there from those who are not any more.
_BY_EXTERNAL_ID: Final = f"""
INSERT OR IGNORE INTO joined
SELECT e.id, s.id FROM entry e JOIN stored s ON s.external_id = e.id
WHERE {_IS_GONE} = :is_gone AND {_FREE} ORDER BY e.id, s.id
"""  # noqa: S608 - our own constants
# Only where one entry and one user have it: what is ambiguous is left to the address. Counted before they are joined,
# since a directory may say the same of everybody.
_BY_IMMUTABLE_ID: Final = f"""
INSERT OR IGNORE INTO joined
SELECT one.id, other.id FROM
(SELECT MIN(e.id) AS id, e.immutable_id AS immutable_id FROM entry e
 WHERE e.immutable_id IS NOT NULL AND {_IS_GONE} = :is_gone AND e.id NOT IN (SELECT entry_id FROM joined)
 GROUP BY e.immutable_id HAVING COUNT(*) = 1) one
JOIN (SELECT MIN(s.id) AS id, s.immutable_id AS immutable_id FROM stored s
      WHERE s.immutable_id IS NOT NULL AND s.id NOT IN (SELECT user_id FROM joined)
      GROUP BY s.immutable_id HAVING COUNT(*) = 1) other ON other.immutable_id = one.immutable_id
"""  # noqa: S608 - our own constants
# A list never becomes a person, nor a person a list, because of an address alone. A user who has an identity in a
# directory is not joined to another one by a read that may have missed theirs, unless it tells that theirs is gone.
_ADDRESS: Final = """
entry e JOIN stored s ON s.email_key = e.primary_key AND (e.kind = 'list') = (s.kind = 'list')
WHERE (:is_complete OR s.external_id IS NULL OR s.external_id LIKE 'addition:%'
       OR s.external_id IN (SELECT g.id FROM entry g WHERE g.standing IN (GONE)))
""".replace("GONE", _GONE)
_BY_ADDRESS: Final = f"""
INSERT OR IGNORE INTO joined SELECT e.id, s.id FROM {_ADDRESS}
AND {_IS_GONE} = :is_gone AND {_FREE} AND s.id NOT IN (SELECT user_id FROM ambiguous)
ORDER BY e.standing <> 'in', e.id
"""  # noqa: S608 - our own constants
# Of two unknown objects with the address of one user nobody can tell which one is the user.
_AMBIGUOUS: Final = f"""
INSERT INTO ambiguous SELECT s.id FROM {_ADDRESS} AND e.standing = 'in' AND {_FREE} GROUP BY s.id HAVING COUNT(*) > 1
"""  # noqa: S608 - our own constants
# An entry that takes part has it as its own, or had it: who was found once is a user of the directory like all others
# (BEHAVIOURS 1H 11). That somebody else's alias, or a disabled account, mentions the address finds nobody.
_SPOKEN_FOR: Final = """
SELECT 1 FROM entry WHERE primary_key = :key AND standing = 'in' UNION ALL
SELECT 1 FROM stored
WHERE email_key = :key AND source IN ('ldap', 'entra') AND external_id NOT LIKE 'addition:%' LIMIT 1
"""


def set_standings(workspace: Workspace, rules: SyncRules) -> None:
    """Note for every entry where it stands, and put in additions that no entry speaks for (SPEC S12)."""
    last = ""
    while True:
        page = list(workspace.rows("SELECT id, data FROM entry WHERE id > ? ORDER BY id LIMIT ?", (last, BATCH)))
        if not page:
            break
        found = [(standing(read_entry(data), rules), entry_id) for entry_id, data in page]
        workspace.db.execute("BEGIN")
        workspace.db.executemany("UPDATE entry SET standing = ? WHERE id = ?", found)
        workspace.db.execute("COMMIT")
        last = page[-1][0]
    _put_additions(workspace, rules)


def _put_additions(workspace: Workspace, rules: SyncRules) -> None:
    for addition in sorted(rules.additions, key=lambda addition: addition.mailbox.key):
        key = addition.mailbox.key
        if workspace.db.execute(_SPOKEN_FOR, {"key": key}).fetchone() is None:
            names = {"first_name": addition.first_name, "last_name": addition.last_name}
            entry = Entry(
                id=f"addition:{key}", id_kind="dn", immutable_id=None, name=addition.mailbox.address, kind="user",
                is_disabled=False, primary=addition.mailbox, fields=names,
            )  # fmt: skip
            workspace.put([entry])
            change = (standing(entry, rules), entry.id)
            workspace.db.execute("UPDATE entry SET standing = ? WHERE id = ?", change)


def join(workspace: Workspace, rules: SyncRules) -> None:
    """Tell for each entry which stored user it is, if it is one."""
    for is_gone in (False, True):
        values = {"is_gone": is_gone, "is_complete": rules.is_complete}
        workspace.db.execute(_BY_EXTERNAL_ID, values)
        workspace.db.execute(_BY_IMMUTABLE_ID, values)
        if not is_gone:
            workspace.db.execute(_AMBIGUOUS, values)
        workspace.db.execute(_BY_ADDRESS, values)
