"""How many removals a run may make by itself (SPEC S16, BEHAVIOURS 3.2).

The stricter of two peers' guards: a count and a percentage, of which the lower one counts, but never a limit below the
floor. Going over a limit holds everything of that kind; what is at the limit passes. Users, aliases and memberships
have limits of their own; people change groups more often than addresses, and lose less by it.
"""

from dataclasses import dataclass
from typing import Final

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


MEMBERS_PERCENT: Final = 25.0


def limit(there_are: int, count: int, percent: float, guard: GuardDocument) -> int | None:
    """How many of `there_are` may go at once by the guard's mode; None is any number."""
    by_percent = int(there_are * percent / 100)
    found = {"off": None, "count": count, "percent": by_percent, "both": min(count, by_percent)}[guard["mode"]]
    return None if found is None else max(found, guard["min_floor"])


def judge(counts: PlanCounts, guard: GuardDocument) -> Verdict:
    """Compare what a plan takes away with what one run may. The percentages are of what the directory has here."""
    share = guard["max_percent"]
    reasons: list[str] = []

    def is_over(number: int, most: int | None, what: str) -> bool:
        if most is None or number <= most:
            return False
        reasons.append(f"{number} {what}; {most} may be at once")
        return True

    flags = limit(counts.directory_users, guard["max_count"], share, guard)
    aliases = limit(counts.directory_aliases, guard["max_aliases"], share, guard)
    members = limit(counts.directory_members, guard["max_members"], max(share, MEMBERS_PERCENT), guard)
    return Verdict(
        flags=is_over(counts.flagged, flags, "users would be flagged"),
        aliases=is_over(counts.aliases_dropped, aliases, "aliases would be dropped"),
        members=is_over(counts.members_removed, members, "members would be removed"),
        reasons=tuple(reasons),
    )
