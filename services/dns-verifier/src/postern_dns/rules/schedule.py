"""When a pending domain is looked at again, when its owner is warned and when the wait is over (SPEC D3, D7).

DNS changes may take 72 hours. The intervals grow: every minute for the first three, every 2 minutes to the 10th, every
5 to the 30th (somebody sits in front of the page), then every 15 minutes to 24 hours, every 30 to 48 hours, every 60 to
72 hours. Jitter keeps many domains added together from being asked together. The last look is at the deadline itself.
"""

from datetime import datetime, timedelta
from typing import Final

WAIT: Final = timedelta(hours=72)
WARN_BEFORE: Final = timedelta(hours=24)
JITTER: Final = 0.1
DAILY: Final = timedelta(hours=24)
MAIL_DNS_RETRY: Final = timedelta(hours=1)

_STEPS: Final = (
    (timedelta(minutes=3), timedelta(minutes=1)),
    (timedelta(minutes=10), timedelta(minutes=2)),
    (timedelta(minutes=30), timedelta(minutes=5)),
    (timedelta(hours=24), timedelta(minutes=15)),
    (timedelta(hours=48), timedelta(minutes=30)),
)
_LAST_STEP: Final = timedelta(minutes=60)


def interval(age: timedelta) -> timedelta:
    """How long to wait after a look at a domain that is pending for `age`, before jitter."""
    return next((step for until, step in _STEPS if age < until), _LAST_STEP)


def next_check(
    pending_since: datetime, deadline: datetime, now: datetime, *, chance: float, not_before: timedelta | None = None
) -> datetime:
    """The next look: one interval from `now`, moved by `chance` (0 to 1) within the jitter, never past the deadline.

    `not_before` is how long a cache that we depend on keeps its negative answer (RFC 2308 5).
    """
    wait = interval(now - pending_since) * (1 + JITTER * (2 * chance - 1))
    if not_before is not None:
        wait = max(wait, not_before)
    return min(now + wait, deadline)


def is_over(deadline: datetime, now: datetime) -> bool:
    """True once the 72 hours have passed."""
    return now >= deadline


def is_warning_due(deadline: datetime, warned_at: datetime | None, now: datetime) -> bool:
    """True from 24 hours before the deadline, until the owner has been warned."""
    return warned_at is None and deadline - WARN_BEFORE <= now < deadline


def next_mail_look(now: datetime, *, told: bool, chance: float) -> datetime:
    """When a verified domain's MX and SPF are looked at again: daily, or in an hour if the look could not tell."""
    return now + (DAILY if told else MAIL_DNS_RETRY) * (1 + JITTER * (2 * chance - 1))
