"""Queue ids: unique over all edges and in order of time, so that they sort and can be searched for."""

import os
from datetime import datetime


def new_queue_id(now: datetime) -> str:
    """A fresh id for a message that came at `now`: 48 bits of milliseconds and 32 random ones, in hexadecimal."""
    return f"{int(now.timestamp() * 1000):012X}{os.urandom(4).hex().upper()}"
