"""Identifiers: a prefix that tells the kind, then a UUID version 7 (RFC 9562 5.7), so that they sort by time."""

import os
import time
from collections import deque
from typing import Final, Literal

Kind = Literal[
    "adm", "agt", "asn", "cus", "dir", "dis", "dom", "dsx", "evt", "imp", "msg", "par", "req", "rnd", "run", "ses",
    "sit", "srv", "tok", "usr", "err",
]  # fmt: skip

_RANDOM_BITS: Final = 74
_OCTETS: Final = 10
_AT_ONCE: Final = 256
# Each call to the system costs more than the rest of an id, and a message has four: several are fetched at a time. A
# process that is forked off must not give out the same ones.
_random: Final[deque[bytes]] = deque()
os.register_at_fork(after_in_child=_random.clear)


def new_id(kind: Kind) -> str:
    """Return a new id such as `usr_0192f0c1a8b47c3e9d21…` (prefix and 32 hexadecimal digits)."""
    return f"{kind}_{_uuid7():032x}"


def _uuid7() -> int:
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(random_octets(), "big") & ((1 << _RANDOM_BITS) - 1)
    high, low = random >> 62, random & ((1 << 62) - 1)
    return (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low


def random_octets() -> bytes:
    """Ten octets of the system's randomness, used once."""
    try:
        return _random.pop()
    except IndexError:
        fresh = os.urandom(_OCTETS * _AT_ONCE)
        _random.extend(fresh[at : at + _OCTETS] for at in range(_OCTETS, len(fresh), _OCTETS))
        return fresh[:_OCTETS]
