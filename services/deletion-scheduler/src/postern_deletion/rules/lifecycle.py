"""Whether a flagged user is due, may go, and is to be told of; for how long what restoring needs is kept (SPEC X)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.documents import UserState

DEFAULT_KEPT_DAYS: Final = 30
REASON: Final = "the deletion delay ended"
BY_HAND: Final = "by hand"
WARNED_DAYS: Final = (1, 3, 7)
INTERVALS: Final = 2


def is_due(state: UserState, due_at: datetime | None, now: datetime) -> bool:
    """True once a flagged user's delay has ended. Without a due time (`never`) a user stays flagged for ever."""
    return state is UserState.FLAGGED and due_at is not None and due_at <= now


def purge_at(deleted_at: datetime, kept_days: int | None) -> datetime:
    """When the last trace of a deleted user goes; a customer that is gone itself has the default."""
    return deleted_at + timedelta(days=DEFAULT_KEPT_DAYS if kept_days is None else kept_days)


def pause(flag_reason: str | None, directory: Mapping[str, Any] | None, now: datetime) -> str | None:
    """Why a due user waits all the same; None where nothing stands in the way.

    A user whom a synchronisation flagged goes only while the directory is known to have them no more: it is switched on
    and its last good run is young. Switched off, delays run on (SPEC S14) unless the customer chose to freeze them.
    """
    if flag_reason == BY_HAND or directory is None:
        return None
    if not directory["enabled"]:
        return "frozen" if directory["frozen"] else None
    last_good = directory["last_good"]
    oldest = now - INTERVALS * timedelta(hours=directory["interval_hours"])
    return "directory_unread" if last_good is None or last_good["at"] < oldest else None


def spans_of_warnings(now: datetime) -> list[tuple[int, datetime, datetime]]:
    """For each warning: its days, and between which due times it is the one to send."""
    spans = []
    lower = now
    for days in WARNED_DAYS:
        upper = now + timedelta(days=days)
        spans.append((days, lower, upper))
        lower = upper
    return spans
