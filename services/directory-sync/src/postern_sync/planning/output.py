"""Where the passes put what they find: items of the plan, what is left out, and the counts."""

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from postern_sync.rules.entries import Entry
from postern_sync.rules.plan import PlanCounts, PlanItem
from postern_sync.workspace import Workspace

_BATCH: Final = 500


class Output:
    """A plan in the making."""

    def __init__(self, workspace: Workspace) -> None:
        self.counts = PlanCounts()
        self._workspace = workspace
        self._items: list[tuple[str, str]] = []
        self._given_up: list[tuple[str]] = []

    def item(self, item: PlanItem) -> None:
        """Put an item; its number and group come when the plan is whole."""
        # Who comes back is no user yet: what others hand over goes to the entry, as with those who are new.
        user_id = item.user_id if item.action != "restore" else None
        node = user_id or f"entry:{item.entry_id}"
        self._items.append((node, json.dumps(_plain(item), separators=(",", ":"))))
        self._given_up += [(key,) for key in item.dropped]
        if len(self._items) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        self._workspace.db.execute("BEGIN")
        self._workspace.db.executemany("INSERT INTO item (node, data) VALUES (?, ?)", self._items)
        self._workspace.db.executemany("INSERT OR IGNORE INTO given_up VALUES (?)", self._given_up)
        self._workspace.db.execute("COMMIT")
        self._items.clear()
        self._given_up.clear()

    def skip(self, reason: str, entry: Entry, *, address: str = "", detail: str = "") -> None:
        """Note that an entry, or one of its addresses, is left out."""
        shown = address or (entry.primary.address if entry.primary else "")
        data = {"name": entry.name, "address": shown, "other": "", "detail": detail}
        self._workspace.db.execute("INSERT INTO skip (reason, data) VALUES (?, ?)", (reason, json.dumps(data)))

    def leave_out(self, entry: Entry, reason: str) -> None:
        """Keep taking mail for an entry that the directory has and that becomes no user (SPEC R4)."""
        boxes = [box for box in (entry.primary, *entry.aliases) if box is not None]
        self._known((box.key, reason) for box in boxes)

    def _known(self, rows: Iterable[tuple[str, str]]) -> None:
        self._workspace.db.executemany("INSERT OR IGNORE INTO left_out VALUES (?, ?)", rows)


def _plain(item: PlanItem) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in fields(item) if field.name not in {"seq", "group"}}
