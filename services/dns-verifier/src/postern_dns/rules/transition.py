"""What a look at a domain changes: its state, the time of the next look, warnings (SPEC D2, D3, D4, D7)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from postern_common.documents import DomainState
from postern_dns.rules import schedule
from postern_dns.rules.ownership import Outcome


@dataclass(frozen=True, slots=True)
class Standing:
    """What is stored about a domain when a look at it, begun at `started`, is written down."""

    state: DomainState
    pending_since: datetime
    deadline: datetime
    requested_at: datetime | None
    warned_at: datetime | None
    started: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """The state after the look, when to look again (None: only when asked), and whether to warn the owner."""

    state: DomainState
    next_check_at: datetime | None
    warn: bool = False


def decide(
    standing: Standing,
    outcome: Outcome,
    now: datetime,
    *,
    is_held_elsewhere: bool,
    chance: float,
    cached_for: timedelta | None,
) -> Change:
    """Only a match verifies, nothing un-verifies, and a pending domain whose 72 hours are over expires."""
    # Asked for while we were looking: that look may have been too early, so another one follows at once.
    again = now if standing.requested_at is not None and standing.requested_at > standing.started else None
    if standing.state is DomainState.VERIFIED:
        return Change(DomainState.VERIFIED, again)
    if outcome == "match" and not is_held_elsewhere:
        return Change(DomainState.VERIFIED, again)
    if standing.state is DomainState.EXPIRED:
        return Change(DomainState.EXPIRED, again)
    if schedule.is_over(standing.deadline, standing.started):
        return Change(DomainState.EXPIRED, again)
    planned = schedule.next_check(standing.pending_since, standing.deadline, now, chance=chance, not_before=cached_for)
    warn = schedule.is_warning_due(standing.deadline, standing.warned_at, now)
    return Change(DomainState.PENDING, again or planned, warn)
