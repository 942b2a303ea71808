"""Who of the new entries becomes a user, and which deleted user each of them was (SPEC T6, X1, BEHAVIOURS 1H 9)."""

from typing import Final

from postern_sync.planning.output import Output
from postern_sync.rules.entries import SyncRules
from postern_sync.workspace import Workspace, read_entry

LICENCE: Final = "licence_limit"
# What is stored, as it is once those who are in both are updated: a mailbox that became a person takes a licence.
_IN_USE: Final = """
SELECT COUNT(*) FROM stored s LEFT JOIN joined j ON j.user_id = s.id LEFT JOIN entry e ON e.id = j.entry_id
WHERE CASE WHEN e.standing = 'in' AND s.source IN ('ldap', 'entra') THEN e.kind ELSE s.kind END = 'user'
"""
_BEYOND: Final = """
INSERT INTO unadded SELECT id FROM entry
WHERE standing = 'in' AND kind = 'user' AND id NOT IN (SELECT entry_id FROM joined) ORDER BY id LIMIT -1 OFFSET ?
"""
_UNADDED: Final = "SELECT data FROM entry WHERE id IN (SELECT entry_id FROM unadded) ORDER BY id"

_IS_NEW: Final = """
(e.standing = 'in' AND e.id NOT IN (SELECT entry_id FROM joined) AND e.id NOT IN (SELECT entry_id FROM unadded)
 AND e.id NOT IN (SELECT entry_id FROM restoring))
"""
_NEW: Final = f"""
entry e JOIN deleted d ON {{same}} WHERE {_IS_NEW} AND d.id NOT IN (SELECT user_id FROM restoring)
"""  # noqa: S608 - our own constants
_RESTORED_BY: Final = (
    f"""INSERT OR IGNORE INTO restoring
        SELECT e.id, MAX(d.id) FROM {_NEW.format(same="d.external_id = e.id")}
        GROUP BY e.id ORDER BY e.id""",  # noqa: S608 - our own constants
    # Only where one entry has it: what is ambiguous is left to the address.
    f"""INSERT OR IGNORE INTO restoring
        SELECT one.id, MAX(d.id) FROM
        (SELECT MIN(e.id) AS id, e.immutable_id AS immutable_id FROM entry e
         WHERE e.immutable_id IS NOT NULL AND {_IS_NEW} GROUP BY e.immutable_id HAVING COUNT(*) = 1) one
        JOIN deleted d ON d.immutable_id = one.immutable_id WHERE d.id NOT IN (SELECT user_id FROM restoring)
        GROUP BY one.id ORDER BY one.id""",  # noqa: S608 - our own constants
    # Whose own object is there is not the one that has the address now.
    f"""INSERT OR IGNORE INTO restoring
        SELECT e.id, MAX(d.id) FROM {_NEW.format(same="d.email_key = e.primary_key")}
        AND (e.kind = 'list') = (d.kind = 'list')
        AND (d.external_id IS NULL OR d.external_id NOT IN (SELECT id FROM entry))
        GROUP BY e.id ORDER BY e.id""",  # noqa: S608 - our own constants
)  # fmt: skip


def share_out(workspace: Workspace, rules: SyncRules, output: Output) -> None:
    """Note for whom no licence is left: the addresses that they were to get stay where they are.

    They are known without being users, and mail for them is taken.
    """
    if rules.licences is None:
        return
    in_use = next(workspace.rows(_IN_USE))[0]
    workspace.db.execute(_BEYOND, (max(0, rules.licences - in_use),))
    for (data,) in workspace.rows(_UNADDED):
        entry = read_entry(data)
        output.skip(LICENCE, entry)
        output.leave_out(entry, LICENCE)
    workspace.db.execute("DELETE FROM won WHERE entry_id IN (SELECT entry_id FROM unadded)")


def find_deleted(workspace: Workspace) -> None:
    """Tell for each new entry which deleted user it is, if it is one: by identity first, then by address."""
    for statement in _RESTORED_BY:
        workspace.db.execute(statement)
