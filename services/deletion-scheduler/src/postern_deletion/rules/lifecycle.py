"""Whether a flagged user is due, and is to be told of; for how long what restoring needs is kept (SPEC X)."""

from datetime import datetime, timedelta
from typing import Final

from postern_common.documents import UserState

DEFAULT_KEPT_DAYS: Final = 30
REASON: Final = "the deletion delay ended"
WARNED_DAYS: Final = (1, 3, 7)


def is_due(state: UserState, due_at: datetime | None, now: datetime) -> bool:
    """True once a flagged user's delay has ended. Without a due time (`never`) a user stays flagged for ever."""
    return state is UserState.FLAGGED and due_at is not None and due_at <= now


def purge_at(deleted_at: datetime, kept_days: int | None) -> datetime:
    """When the last trace of a deleted user goes; a customer that is gone itself has the default."""
    return deleted_at + timedelta(days=DEFAULT_KEPT_DAYS if kept_days is None else kept_days)


def spans_of_warnings(now: datetime) -> list[tuple[int, datetime, datetime]]:
    """For each warning: its days, and between which due times it is the one to send."""
    spans = []
    lower = now
    for days in WARNED_DAYS:
        upper = now + timedelta(days=days)
        spans.append((days, lower, upper))
        lower = upper
    return spans
