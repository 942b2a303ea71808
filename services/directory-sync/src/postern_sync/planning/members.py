"""The plan's items about memberships: who is put into a list, and who is taken out (SPEC S7, BEHAVIOURS B-S6).

A list may hold lists, and circles end where members are counted out; here each list has its own members only. A
membership that came from elsewhere is not touched. A member who is missing from the directory stays in the list for as
long as the user does: who comes back finds everything as it was (SPEC S15).
"""

import itertools
from collections.abc import Iterator
from typing import Final

from postern_sync.planning.output import Output
from postern_sync.rules.entries import SyncRules
from postern_sync.rules.plan import PlanItem
from postern_sync.workspace import Workspace

MEMBERS_IN_ITEM: Final = 1000

# Entries that can be members, by what groups name them by, with how many of them have it.
_NAMED: Final = """
CREATE TEMP TABLE named AS
SELECT r.ref AS ref, COALESCE(j.user_id, 'entry:' || r.entry_id) AS member_id,
       COUNT(*) OVER (PARTITION BY r.ref) AS rivals
FROM ref r JOIN entry e ON e.id = r.entry_id LEFT JOIN joined j ON j.entry_id = r.entry_id
WHERE (e.standing = 'in' OR j.user_id IS NOT NULL) AND e.id NOT IN (SELECT entry_id FROM unadded)
"""
# Where two have the same name, nobody can tell who is meant: none is put in, and none is taken out.
_WANTED: Final = """
CREATE TEMP TABLE wanted_member AS
SELECT COALESCE(gj.user_id, 'entry:' || m.group_id) AS group_id, n.member_id AS member_id, MIN(n.rivals) AS rivals
FROM member m
JOIN entry g ON g.id = m.group_id AND g.standing = 'in' LEFT JOIN joined gj ON gj.entry_id = m.group_id
JOIN named n ON n.ref = m.ref
WHERE g.id NOT IN (SELECT entry_id FROM unadded)
GROUP BY 1, 2
"""
_ADDED: Final = """
SELECT w.group_id, w.member_id FROM wanted_member w
LEFT JOIN stored_member s ON s.group_id = w.group_id AND s.member_id = w.member_id
WHERE s.group_id IS NULL AND w.rivals = 1 ORDER BY 1, 2
"""
_REMOVED: Final = """
SELECT s.group_id, s.member_id FROM stored_member s
JOIN joined gj ON gj.user_id = s.group_id JOIN entry g ON g.id = gj.entry_id AND g.standing = 'in'
JOIN joined mj ON mj.user_id = s.member_id JOIN entry e ON e.id = mj.entry_id AND e.standing = 'in'
LEFT JOIN wanted_member w ON w.group_id = s.group_id AND w.member_id = s.member_id
WHERE s.source IN ('ldap', 'entra') AND w.group_id IS NULL ORDER BY 1, 2
"""


def plan_members(workspace: Workspace, rules: SyncRules, output: Output) -> None:
    """Compare the members of all lists that take part."""
    workspace.db.execute(_NAMED)
    workspace.db.execute("CREATE INDEX temp.named_ref ON named (ref)")
    workspace.db.execute(_WANTED)
    workspace.db.execute("CREATE INDEX temp.wanted_pair ON wanted_member (group_id, member_id)")
    for group_id, members in _by_group(workspace, _ADDED):
        output.item(_item(workspace, "add_members", group_id, members))
        output.counts.members_added += len(members)
    if not rules.is_complete:
        return
    for group_id, members in _by_group(workspace, _REMOVED):
        output.item(_item(workspace, "remove_members", group_id, members))
        output.counts.members_removed += len(members)


def _by_group(workspace: Workspace, query: str) -> Iterator[tuple[str, list[str]]]:
    for group_id, rows in itertools.groupby(workspace.rows(query), key=lambda row: str(row[0])):
        while members := [row[1] for row in itertools.islice(rows, MEMBERS_IN_ITEM)]:
            yield group_id, members


def _item(workspace: Workspace, action: str, group_id: str, members: list[str]) -> PlanItem:
    is_new = group_id.startswith("entry:")
    query = (
        "SELECT json_extract(data, '$.name') FROM entry WHERE id = ?"
        if is_new
        else ("SELECT json_extract(data, '$.primary[0]') FROM stored WHERE id = ?")
    )
    label = next(workspace.rows(query, (group_id.removeprefix("entry:"),)))[0]
    return PlanItem(
        seq=0, group=0, action="add_members" if action == "add_members" else "remove_members", label=label,
        user_id=None if is_new else group_id, entry_id=group_id.removeprefix("entry:") if is_new else None,
        change={"members": members}, destructive=action == "remove_members",
    )  # fmt: skip
