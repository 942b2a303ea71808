"""When a mail server that does not answer is left out for a while (SPEC R3).

After a few failures in a row the server is left out, for longer each time; then one attempt at a time is let through,
and its success puts the server back. A failure is one of the connection, or silence before a message was sent: a server
that refuses a message is alive.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

FAILURES_TO_OPEN: Final = 3
FIRST_PAUSE: Final = timedelta(seconds=15)
LONGEST_PAUSE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is known of one server: failures in a row, until when it is left out, whether a trial is under way."""

    failures: int = 0
    open_until: datetime | None = None
    trial_until: datetime | None = None


def permits(breaker: Breaker, now: datetime) -> bool:
    """Whether an attempt may be made now."""
    if breaker.open_until is None:
        return True
    return now >= breaker.open_until and (breaker.trial_until is None or now >= breaker.trial_until)


def attempted(breaker: Breaker, now: datetime) -> Breaker:
    """The state once an attempt has begun: of a server that was left out, only one is made at a time."""
    if breaker.open_until is None:
        return breaker
    return replace(breaker, trial_until=now + FIRST_PAUSE)


def failed(breaker: Breaker, now: datetime) -> Breaker:
    """The state after the server could not be used."""
    failures = breaker.failures + 1
    if failures < FAILURES_TO_OPEN:
        return Breaker(failures)
    if breaker.open_until is not None and now < breaker.open_until:
        return replace(breaker, trial_until=None)  # one of several that were under way when it opened
    doublings = min(failures - FAILURES_TO_OPEN, 10)
    return Breaker(failures, now + min(FIRST_PAUSE * 2**doublings, LONGEST_PAUSE))


def succeeded(_breaker: Breaker) -> Breaker:
    """The state after the server answered: as if nothing had been."""
    return Breaker()
