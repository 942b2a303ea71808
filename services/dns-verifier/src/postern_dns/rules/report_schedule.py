"""When the reports of a day go out, and when one that could not be sent is tried again (RFC 8460 4.1)."""

from datetime import UTC, datetime, time, timedelta
from typing import Final

SETTLED: Final = timedelta(minutes=15)  # after the day's end: what edges still count in memory is written by then
SPREAD: Final = timedelta(hours=4)  # so that not all the world reports at midnight
TRIED: Final = timedelta(hours=24)
KEPT: Final = timedelta(days=10)
FIRST_PAUSE: Final = timedelta(minutes=15)
LONGEST_PAUSE: Final = timedelta(hours=4)
JITTER: Final = 0.2


def day_to_report(now: datetime) -> str | None:
    """The day whose reports are due to be planned, as `2026-11-28`; None while the last one has only just ended."""
    midnight = datetime.combine(now.date(), time(), UTC)
    if now - midnight < SETTLED:
        return None
    return (midnight - timedelta(days=1)).date().isoformat()


def first_attempt(now: datetime, *, chance: float) -> datetime:
    """When a report is sent, `chance` (0 to 1) of the way through the hours that reports are spread over."""
    return now + SPREAD * chance


def next_attempt(now: datetime, attempts: int, give_up_at: datetime, *, chance: float) -> datetime | None:
    """When a report is tried again after so many attempts, `chance` (0 to 1) within the jitter; None if never."""
    pause = min(FIRST_PAUSE * 2 ** min(max(attempts - 1, 0), 10), LONGEST_PAUSE) * (1 + JITTER * (2 * chance - 1))
    return now + pause if now + pause <= give_up_at else None
