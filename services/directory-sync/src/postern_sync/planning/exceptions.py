"""Exceptions that leave nothing out, so that a slip in one is told (SPEC S12, S17)."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from postern_sync.workspace import Workspace

UNMATCHED: Final = "exception_unmatched"
_ENTRY: Final = "SELECT 1 FROM entry WHERE id = ? LIMIT 1"
_ALIAS: Final = "SELECT 1 FROM claim WHERE key = ? LIMIT 1"


def note_unmatched(workspace: Workspace, exceptions: Iterable[Mapping[str, Any]]) -> None:
    """Note exceptions that name nothing that was read; they are no entries, and so are not counted as left out."""
    for one in sorted(exceptions, key=lambda one: str(one["_id"])):
        named, query = (one["external_id"], _ENTRY) if one["external_id"] else (one["key"] or "", _ALIAS)
        if next(workspace.rows(query, (named,)), None) is None:
            data = {
                "name": one["label"] or named, "address": one["key"] or "", "other": "",
                "detail": f"The exception for the {one['kind']} {named} fits nothing that was read.",
            }  # fmt: skip
            workspace.db.execute("INSERT INTO skip (reason, data) VALUES (?, ?)", (UNMATCHED, json.dumps(data)))
