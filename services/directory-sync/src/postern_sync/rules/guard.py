"""How many removals a run may make by itself (SPEC S16, BEHAVIOURS 3.2).

The stricter of two peers' guards: a count and a percentage, of which the lower one counts, but never a limit below the
floor. Going over a limit holds everything of that kind; what is at the limit passes.
"""

from dataclasses import dataclass

from postern_common.directory_documents import GuardDocument
from postern_sync.rules.plan import PlanCounts, PlanItem


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which removals are held, and what is said of each."""

    flags: bool = False
    aliases: bool = False
    members: bool = False
    reasons: tuple[str, ...] = ()

    def holds(self, item: PlanItem) -> bool:
        """Whether an item waits for approval."""
        if not item.destructive:
            return False
        if item.action == "drop_aliases":
            return self.aliases
        return self.members if item.action == "remove_members" else self.flags


EVERYTHING = Verdict(flags=True, aliases=True, members=True)


def limit_of_flags(directory_users: int, guard: GuardDocument) -> int | None:
    """How many users may be flagged at once; None is any number. The percentage is of the directory's users here."""
    by_percent = int(directory_users * guard["max_percent"] / 100)
    limits = {
        "off": None,
        "count": guard["max_count"],
        "percent": by_percent,
        "both": min(guard["max_count"], by_percent),
    }
    limit = limits[guard["mode"]]
    return None if limit is None else max(limit, guard["min_floor"])


def judge(counts: PlanCounts, guard: GuardDocument) -> Verdict:
    """Compare what a plan takes away with what one run may."""
    if guard["mode"] == "off":
        return Verdict()
    reasons = []
    limit = limit_of_flags(counts.directory_users, guard)
    flags = limit is not None and counts.flagged > limit
    if flags:
        reasons.append(f"{counts.flagged} users would be flagged; {limit} may be at once")
    limit = max(guard["max_aliases"], guard["min_floor"])
    aliases = counts.aliases_dropped > limit
    if aliases:
        reasons.append(f"{counts.aliases_dropped} aliases would be dropped; {limit} may be at once")
    limit = max(guard["max_members"], guard["min_floor"])
    members = counts.members_removed > limit
    if members:
        reasons.append(f"{counts.members_removed} members would be removed; {limit} may be at once")
    return Verdict(flags, aliases, members, tuple(reasons))
