"""When flagged users go: what the service that deletes decides, and others show (SPEC S9, S14, S16, X1). All pure.

And what is noted of a removed customer until nothing of it is left.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypedDict

BY_HAND: Final = "by hand"
NOTICE: Final = timedelta(hours=24)
INTERVALS: Final = 2
PauseReason = Literal["frozen", "directory_unread", "awaiting_run"]


class RemovedCustomerDocument(TypedDict):
    """A customer that is gone, under its id. The api notes it; deletion-scheduler removes what is left of the customer
    at `next_at`, and the note in the end.
    """

    _id: str
    removed_at: datetime
    next_at: datetime


def due_by_delay(flagged_at: datetime, delay_days: int | None, changed_at: datetime | None) -> datetime | None:
    """When a user goes whose due time follows the customer's delay; None is never.

    A delay counts from the flag. `changed_at` is when the delay was changed last while that is not worked off: nobody
    goes within 24 hours of it (BEHAVIOURS 1H 8).
    """
    if delay_days is None:
        return None
    due_at = flagged_at + timedelta(days=delay_days)
    return due_at if changed_at is None else max(due_at, changed_at + NOTICE)


def pause(user: Mapping[str, Any], directory: Mapping[str, Any] | None, now: datetime) -> PauseReason | None:
    """Why a flagged user is not deleted even when due; None where nothing stands in the way.

    A user whom a synchronisation flagged goes only while the directory is known to have them no more: it is switched
    on, a young run confirmed that, and began after the flag and after the last change of the settings, exceptions and
    additions. A plan that waits for approval stops nobody who was flagged before it. Switched off, delays run on (SPEC
    S14) unless the customer chose to freeze them.
    """
    if user["flag_reason"] == BY_HAND or directory is None:
        return None
    if directory["frozen"]:
        return "frozen"
    if not directory["enabled"]:
        return None
    confirmed_at = confirmed(directory)
    oldest = now - INTERVALS * timedelta(hours=directory["interval_hours"])
    if confirmed_at is None or confirmed_at < oldest:
        return "directory_unread"
    # A run under other settings, exceptions or additions asked another question than what is to be known now.
    if confirmed_at < user["flagged_at"] or is_outdated(directory):
        return "awaiting_run"
    return None


def is_outdated(directory: Mapping[str, Any]) -> bool:
    """Whether what is known of the directory is the answer to an older question, so that all who are flagged wait."""
    confirmed_at = confirmed(directory)
    changed = [at for name in ("updated_at", "rules_changed_at") if (at := directory.get(name)) is not None]
    return confirmed_at is None or any(confirmed_at < at for at in changed)


def confirmed(directory: Mapping[str, Any]) -> datetime | None:
    """When the directory was last known to have those no more who are flagged; None is never."""
    last_good, by_held = directory["last_good"], directory.get("confirmed_at")
    found = [at for at in (last_good["at"] if last_good is not None else None, by_held) if at is not None]
    return max(found, default=None)
