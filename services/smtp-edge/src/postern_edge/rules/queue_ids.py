"""Queue ids: short, unique over all edges, in order of time, with letters that read well over a telephone."""

import secrets
from datetime import datetime
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32
_RANDOM_BITS: Final = 32
_LENGTH: Final = 16  # 48 bits of milliseconds and 32 random ones


def new_queue_id(now: datetime) -> str:
    """A fresh id for a message that came at `now`."""
    number = (int(now.timestamp() * 1000) << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    letters = []
    for _ in range(_LENGTH):
        letters.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(letters))
