"""Queue ids: unique over all edges and in order of time, so that they sort and can be searched for."""

from datetime import datetime

from postern_common.ids import random_octets


def new_queue_id(now: datetime) -> str:
    """A fresh id for a message that came at `now`: 48 bits of milliseconds and 32 random ones, in hexadecimal."""
    return f"{int(now.timestamp() * 1000):012X}{random_octets()[:4].hex().upper()}"
