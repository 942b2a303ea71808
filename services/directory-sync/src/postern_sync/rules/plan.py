"""A plan: the changes that would make the stored users what the directory says, as data (SPEC S16, DESIGN 12).

Preview, guard, approval and applying all work on these items; nothing else changes users.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from postern_common.directory_documents import ItemAction


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One change. Items of the same `group` hand addresses to each other and are applied in one transaction.

    `label` is the address (or name) that people know the thing by. `change` and `before` hold fields of the user's
    document; for members `{"members": [user ids, or entry ids of users that the plan adds]}`. `gained` and `dropped`
    are address keys. `version` is the stored version that the change was worked out from.

    Actions: `add` a user or list (`restore` one deleted before, under its old id), `update` fields and addresses gained
    or moved, `drop_aliases`, `flag` for deletion, `unflag`, `add_members`, `remove_members`, and `know` or `forget` an
    address that the directory has and that no user gets (SPEC R4).
    """

    seq: int
    group: int
    action: ItemAction
    label: str
    user_id: str | None = None
    entry_id: str | None = None
    reason: str | None = None
    version: int | None = None
    change: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    gained: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    destructive: bool = False


@dataclass(frozen=True, slots=True)
class Skip:
    """An entry or address that is left out, and why. `name` is what the directory calls it, `other` the rival."""

    reason: str
    name: str
    address: str = ""
    other: str = ""
    detail: str = ""


@dataclass(slots=True)
class PlanCounts:
    """What a plan comes to. `directory_users` are the stored users of the directory's source that are active: the
    guard's denominator.
    """

    read: int = 0
    users: int = 0
    groups: int = 0
    added: int = 0
    restored: int = 0
    updated: int = 0
    unchanged: int = 0
    flagged: int = 0
    unflagged: int = 0
    skipped: int = 0
    aliases_dropped: int = 0
    members_added: int = 0
    members_removed: int = 0
    directory_users: int = 0
    directory_aliases: int = 0
    directory_members: int = 0


def plan_hash(items: Iterable[PlanItem]) -> str:
    """Names a plan by what it does: the same changes to the same things give the same name, in any order.

    Ids of runs, sequence numbers and stored versions do not count; the values that are set do. A new user has no id
    yet and goes by its entry.
    """
    total = 0
    count = 0
    for item in items:
        text = json.dumps(
            [item.action, item.user_id or item.entry_id, item.label, item.reason, item.change, sorted(item.dropped)],
            sort_keys=True, separators=(",", ":"), default=str,
        )  # fmt: skip
        total = (total + int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")) % (1 << 256)
        count += 1
    return hashlib.sha256(f"{count}:{total:064x}".encode()).hexdigest()[:32]
