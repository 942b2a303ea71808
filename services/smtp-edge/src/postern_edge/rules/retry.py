"""When a deferred recipient is tried again (SPEC R5, RFC 5321 4.5.4.1): soon at first, then at growing intervals with
jitter.

The last attempt falls on the end of the message's life; when that fails too, there is no next one and the message
returns.
"""

from datetime import datetime, timedelta
from typing import Final

# In units of the first interval, a minute by default: 1, 5, 15, 30 minutes, 1, 2 hours, then every 4 hours.
GROWTH: Final = (1, 5, 15, 30, 60, 120, 240)
JITTER: Final = 0.2
DELAY_NOTICE_AFTER: Final = timedelta(hours=4)


def next_attempt(
    attempts: int, *, first: timedelta, now: datetime, expires_at: datetime, draw: float
) -> datetime | None:
    """The time of the attempt that follows number `attempts`, None when the message's life is over.

    `draw` is a random number from 0 to 1, by which attempts that fell together drift apart.
    """
    if now >= expires_at:
        return None
    interval = first * GROWTH[min(max(attempts, 1), len(GROWTH)) - 1]
    return min(now + interval * (1 + JITTER * (2 * draw - 1)), expires_at)
