"""Identifiers: a prefix that tells the kind, then a UUID version 7 (RFC 9562 5.7), so that they sort by time."""

import os
import time
from typing import Final, Literal

Kind = Literal[
    "adm", "agt", "asn", "cus", "dir", "dis", "dom", "dsx", "evt", "imp", "msg", "par", "req", "rnd", "run", "ses",
    "sit", "srv", "tok", "usr", "err",
]  # fmt: skip

_RANDOM_BITS: Final = 74


def new_id(kind: Kind) -> str:
    """Return a new id such as `usr_0192f0c1a8b47c3e9d21…` (prefix and 32 hexadecimal digits)."""
    return f"{kind}_{_uuid7():032x}"


def _uuid7() -> int:
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big") & ((1 << _RANDOM_BITS) - 1)
    high, low = random >> 62, random & ((1 << 62) - 1)
    return (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low
