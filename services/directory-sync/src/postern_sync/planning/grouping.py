"""Which items belong together: those of one user, and of users who hand addresses to each other.

A group is applied in one transaction, so that an address that moves always has an owner, whatever the order, and two
who swap theirs never meet in the middle.
"""

from collections.abc import Iterator
from typing import Final

from postern_sync.workspace import Workspace

_HANDED_OVER: Final = "SELECT DISTINCT new_owner, user_id FROM handed"
# Users first, then what needs them to be there: members, and addresses that are known without a user.
_ORDER: Final = """
SELECT seq, node, json_extract(data, '$.action') IN ('add_members', 'remove_members', 'know', 'forget') FROM item
ORDER BY 3, seq
"""


def number_groups(workspace: Workspace) -> None:
    """Give every item its group, in the order in which groups are applied."""
    parents: dict[str, str] = {}
    for new_owner, owner in list(workspace.rows(_HANDED_OVER)):
        parents[_root(parents, new_owner)] = _root(parents, owner)
    numbers: dict[str, int] = {}
    workspace.db.execute("BEGIN")
    workspace.db.executemany("UPDATE item SET grp = ? WHERE seq = ?", _numbered(workspace, parents, numbers))
    workspace.db.execute("COMMIT")


def _numbered(workspace: Workspace, parents: dict[str, str], numbers: dict[str, int]) -> Iterator[tuple[int, int]]:
    last = 0
    previous = ""
    for seq, node, is_late in workspace.rows(_ORDER):
        if is_late:
            last += 1
            yield last, seq
            continue
        root = _root(parents, node) if node in parents else node
        # Items of one user follow each other; only those who hand something over are met again.
        if root in parents or root in numbers:
            if root not in numbers:
                last += 1
                numbers[root] = last
            yield numbers[root], seq
        else:
            last += root != previous
            yield last, seq
        previous = root


def _root(parents: dict[str, str], node: str) -> str:
    parents.setdefault(node, node)
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node
