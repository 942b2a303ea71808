"""The plan's items about addresses that the directory has and no user here gets: mail for them is taken (SPEC R4)."""

from typing import Final

from postern_sync.planning.output import Output
from postern_sync.rules.entries import SyncRules
from postern_sync.rules.plan import PlanItem
from postern_sync.workspace import Workspace

# Why an address is known that a directory need not have: mail showed it, and no licence was left for a user (SPEC U5).
DISCOVERED: Final = "licence_discovered"
# Whoever has an address when the plan is applied makes it known; a word of its own is for those without an owner.
_OWNED: Final = """
SELECT key FROM won UNION SELECT key FROM held WHERE key NOT IN (SELECT key FROM given_up) UNION SELECT key FROM taken
"""
_KNOW: Final = f"""
SELECT l.key, l.reason FROM left_out l LEFT JOIN known k ON k.key = l.key
WHERE (k.key IS NULL OR k.reason <> l.reason) AND l.key NOT IN ({_OWNED}) ORDER BY l.key
"""  # noqa: S608 - our own constant
_FORGET: Final = f"""
SELECT k.key, k.reason FROM known k LEFT JOIN left_out l ON l.key = k.key
WHERE (l.key IS NULL AND k.reason <> '{DISCOVERED}') OR k.key IN ({_OWNED}) ORDER BY k.key
"""  # noqa: S608 - our own constant


def plan_known(workspace: Workspace, rules: SyncRules, output: Output) -> None:
    """Compare what is left out now with what was."""
    for key, reason in list(workspace.rows(_KNOW)):
        if key.rpartition("@")[2] in rules.managed:
            output.item(PlanItem(0, 0, "know", key, entry_id=key, reason=reason, change={"key": key}))
    if rules.is_complete:
        for key, reason in list(workspace.rows(_FORGET)):
            output.item(PlanItem(0, 0, "forget", key, entry_id=key, reason=reason, change={"key": key}))
