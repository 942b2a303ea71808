"""Attributes with more values than a server gives at once (BEHAVIOURS 3.4, [MS-ADTS] 3.1.1.3.1.3.3).

Active Directory answers `member` present but empty, and `member;range=0-1499` beside it. The rest is asked for range by
range until one ends in `*`. Some domain controllers give another range than the one asked for: whatever leaves a gap
begins anew, and after that counts as not read. An empty `member` never means that there are none.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from postern_sync.adapters.ldap import ber
from postern_sync.adapters.ldap.faults import SUCCESS

_RANGE: Final = re.compile(r"(.+);range=([0-9]{1,9})-([0-9]{1,9}|\*)", re.IGNORECASE)
CHUNK: Final = 1000
ATTEMPTS: Final = 3
MAX_RANGES: Final = 10_000

# Asks for one entry's attribute by its description; the answer's result code, and the entry if there was one.
Ask = Callable[[str], tuple[int, ber.Object | None]]


@dataclass(frozen=True, slots=True)
class Block:
    """A range of values: `stop` is that of the last one, None where that is the end."""

    start: int
    stop: int | None
    values: ber.Values


def block_of(attributes: Mapping[str, ber.Values], name: str, start: int = 0) -> Block | None:
    """The range of an attribute in an answer: of several the one that begins at `start`, else the first."""
    found: list[Block] = []
    for description, values in attributes.items():
        match = _RANGE.fullmatch(description)
        if match is not None and match[1].lower() == name.lower():
            found.append(Block(int(match[2]), None if match[3] == "*" else int(match[3]), values))
    return min(found, key=lambda block: (block.start != start, block.start), default=None)


def plain_of(attributes: Mapping[str, ber.Values], name: str) -> ber.Values | None:
    """The values of an attribute that is there without a range."""
    return next((values for key, values in attributes.items() if key.lower() == name.lower()), None)


def put_all(values: ber.Values, put: Callable[[list[bytes]], None]) -> int:
    """Hand values on in pieces; how many there were."""
    count = 0
    stream = iter(values)
    while piece := list(islice(stream, CHUNK)):
        put(piece)
        count += len(piece)
    return count


def read_once(name: str, ask: Ask, put: Callable[[list[bytes]], None], size: int | None = None) -> bool:
    """All values of an attribute, range by range; False where a range is missing. `size` names the end of each range,
    for servers that answer an open one with its end only.
    """
    start = 0
    for _ in range(MAX_RANGES):
        code, found = ask(f"{name};range={start}-{'*' if size is None else start + size - 1}")
        if code != SUCCESS or found is None:
            return False
        block = block_of(found.attributes, name, start)
        if block is None:
            if start:
                return False
            # No range in the answer to a range: the server knows none and gave all, or there are no values.
            values = plain_of(found.attributes, name)
            if values is not None:
                put_all(values, put)
            return True
        if block.start != start:
            return False
        count = put_all(block.values, put)
        if block.stop is None:
            return True
        if count != block.stop - block.start + 1:
            return False
        start = block.stop + 1
    return False


def size_of(attempt: int) -> int | None:
    """How large a range an attempt asks for: at first as large as the server likes."""
    return None if attempt == 0 else CHUNK
