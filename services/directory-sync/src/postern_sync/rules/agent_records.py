"""What an agent and the server compare: records of a directory, their hashes, and a digest over all of them (SPEC L4).

A record is an entry, or one membership. Its key tells which, so that a set of records can be compared without order.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

ENTRY: Final = "entry:"
MEMBER: Final = "member:"
PRESENT: Final = ""  # the hash of a membership, which is there or not
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_SPACE: Final = 1 << 256
# What the server takes.
MAX_ID: Final = 1000
MAX_REF: Final = 4000
MAX_REFS: Final = 100


def entry_key(entry_id: str) -> str:
    """The key of an entry."""
    return ENTRY + entry_id


def members_prefix(group_id: str) -> str:
    """What the keys of a group's memberships begin with. Ids may hold any character, so their length comes first."""
    return f"{MEMBER}{len(group_id)}:{group_id}:"


def member_key(group_id: str, ref: str) -> str:
    """The key of a membership."""
    return members_prefix(group_id) + ref


def membership_of(key: str) -> tuple[str, str]:
    """The group and the member of a membership's key."""
    length, _, rest = key.removeprefix(MEMBER).partition(":")
    group_id = rest[: int(length)]
    return group_id, rest[int(length) + 1 :]


def sendable(text: str, limit: int) -> str:
    """A name as a page may hold it: one that is odd must not keep all others from being sent, and stays told apart."""
    plain = text.replace("\0", "\ufffd")
    if len(plain) <= limit:
        return plain
    return f"{plain[: limit - 65]}#{hashlib.sha256(plain.encode('utf-8', 'replace')).hexdigest()}"


def canonical(entry: Mapping[str, Any]) -> str:
    """An entry as text that is the same on both sides."""
    return _CANONICAL.encode(entry)


def entry_hash(text: str) -> str:
    """Names the content of an entry, by its canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Digest:
    """Names a set of records, whatever their order: the sum of their hashes."""

    def __init__(self) -> None:
        self._sum = 0
        self.records = 0

    def add(self, key: str, content: str) -> None:
        """Take a record by its key and the hash of its content."""
        # Half of a surrogate pair cannot stand in a page; here it must not end the reading.
        found = hashlib.sha256(f"{key}\0{content}".encode("utf-8", "replace")).digest()
        self._sum = (self._sum + int.from_bytes(found, "big")) % _SPACE
        self.records += 1

    @property
    def text(self) -> str:
        """The digest as 64 hexadecimal digits."""
        return f"{self._sum:064x}"
