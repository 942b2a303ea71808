"""`reconcile`: what was read of a directory and what is stored give a plan, always the same one (SPEC S2 to S16).

It depends on nothing but the workspace and the rules: not on the order in which pages came, on the time, or on any
other service.
"""

from postern_sync.planning import claims, grouping, joining, known, licensing, members, users
from postern_sync.planning.output import Output
from postern_sync.rules.entries import SyncRules
from postern_sync.rules.plan import PlanCounts
from postern_sync.workspace import Workspace


def reconcile(workspace: Workspace, rules: SyncRules) -> PlanCounts:
    """Leave the plan in the workspace; what it comes to."""
    output = Output(workspace)
    joining.set_standings(workspace, rules)
    joining.join(workspace, rules)
    claims.settle(workspace, rules)
    licensing.share_out(workspace, rules, output)
    claims.note_handed_over(workspace)
    licensing.find_deleted(workspace)
    users.count_stored(workspace, output)
    users.plan_joined(workspace, rules, output)
    users.plan_new(workspace, rules, output)
    users.plan_missing(workspace, rules, output)
    users.report_out(workspace, output)
    output.flush()
    members.plan_members(workspace, rules, output)
    known.plan_known(workspace, rules, output)
    output.flush()
    grouping.number_groups(workspace)
    _count_read(workspace, output.counts)
    return output.counts


def _count_read(workspace: Workspace, counts: PlanCounts) -> None:
    counts.read, counts.groups = next(
        workspace.rows("SELECT COUNT(*), COALESCE(SUM(kind = 'list'), 0) FROM entry WHERE id NOT LIKE 'addition:%'")
    )
    counts.users = counts.read - counts.groups
    counts.skipped = next(workspace.rows("SELECT COUNT(*) FROM skip"))[0]
