"""Reads LDAP's answers (RFC 4511 4.1.1, 5.1), with bounds and without copies.

A directory belongs to a customer and may send anything. Lengths are checked against what there is, values are taken one
at a time, and nothing is recursive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SEQUENCE: Final = 0x30
SET: Final = 0x31
INTEGER: Final = 0x02
OCTETS: Final = 0x04
ENUMERATED: Final = 0x0A
BOOLEAN: Final = 0x01
BIND_RESPONSE: Final = 0x61
SEARCH_ENTRY: Final = 0x64
SEARCH_DONE: Final = 0x65
SEARCH_REFERENCE: Final = 0x73
EXTENDED_RESPONSE: Final = 0x78
INTERMEDIATE: Final = 0x79
_REFERRAL: Final = 0xA3
_CONTROLS: Final = 0xA0
PAGED_RESULTS: Final = b"1.2.840.113556.1.4.319"  # RFC 2696
MAX_ATTRIBUTES: Final = 1000
MAX_REFERENCES: Final = 100
_MAX_INTEGER: Final = 8


class Malformed(Exception):
    """What came is no answer of LDAP."""


@dataclass(frozen=True, slots=True)
class Part:
    """An element within a message."""

    tag: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Message:
    """One answer: to which question, of which kind, and where its parts stand."""

    number: int
    kind: int
    data: bytes
    body: Part
    controls: Part | None


@dataclass(frozen=True, slots=True)
class Values:
    """The values of an attribute, read as they are asked for."""

    data: bytes
    part: Part

    def __iter__(self) -> Iterator[bytes]:
        for value in parts(self.data, self.part):
            yield self.data[value.start : value.stop]


@dataclass(frozen=True, slots=True)
class Object:
    """An entry as it was sent; attributes by their description as written."""

    dn: str
    attributes: dict[str, Values]


@dataclass(frozen=True, slots=True)
class Result:
    """How an operation ended; `cookie` is None where the server gave no word on paging."""

    code: int
    diagnostic: str
    referrals: tuple[str, ...]
    cookie: bytes | None


def length_of(data: bytes | bytearray) -> int | None:
    """How long the message that begins here is, with its head; None while that cannot be told. Raises `Malformed`."""
    if len(data) < 2:
        return None
    if data[0] != SEQUENCE:
        raise Malformed
    if data[1] < 0x80:
        return data[1] + 2
    count = data[1] & 0x7F
    if not 1 <= count <= 4:  # RFC 4511 5.1: definite lengths only
        raise Malformed
    if len(data) < 2 + count:
        return None
    return int.from_bytes(data[2 : 2 + count], "big") + 2 + count


def element(data: bytes, at: int, stop: int) -> Part:
    """The element that begins at `at`, within `stop`."""
    if at + 2 > stop or data[at] & 0x1F == 0x1F:
        raise Malformed
    tag, length, start = data[at], data[at + 1], at + 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or start + count > stop:
            raise Malformed
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > stop:
        raise Malformed
    return Part(tag, start, start + length)


def parts(data: bytes, whole: Part) -> Iterator[Part]:
    """The elements within another one."""
    at = whole.start
    while at < whole.stop:
        part = element(data, at, whole.stop)
        yield part
        at = part.stop


def parse(data: bytes) -> Message:
    """A whole message."""
    whole = element(data, 0, len(data))
    number = element(data, whole.start, whole.stop)
    body = element(data, number.stop, whole.stop)
    controls = element(data, body.stop, whole.stop) if body.stop < whole.stop else None
    if controls is not None and controls.tag != _CONTROLS:
        controls = None
    return Message(_integer(data, number), body.tag, data, body, controls)


def entry(message: Message) -> Object:
    """What a searchResEntry holds (RFC 4511 4.5.2)."""
    data = message.data
    name = element(data, message.body.start, message.body.stop)
    whole = element(data, name.stop, message.body.stop)
    found: dict[str, Values] = {}
    for attribute in parts(data, whole):
        if len(found) >= MAX_ATTRIBUTES:
            raise Malformed
        kind = element(data, attribute.start, attribute.stop)
        values = element(data, kind.stop, attribute.stop)
        found[_text(data, kind)] = Values(data, values)
    return Object(_text(data, name), found)


def references(message: Message) -> list[str]:
    """The addresses in a searchResRef: where another part of the tree lies."""
    return _addresses(message.data, message.body)


def result(message: Message) -> Result:
    """What ends an operation (RFC 4511 4.1.9)."""
    data = message.data
    code = element(data, message.body.start, message.body.stop)
    matched = element(data, code.stop, message.body.stop)
    diagnostic = element(data, matched.stop, message.body.stop)
    referrals: list[str] = []
    if diagnostic.stop < message.body.stop:
        more = element(data, diagnostic.stop, message.body.stop)
        if more.tag == _REFERRAL:
            referrals = _addresses(data, more)
    return Result(_integer(data, code), _text(data, diagnostic), tuple(referrals), _cookie(message))


def _addresses(data: bytes, whole: Part) -> list[str]:
    found: list[str] = []
    for part in parts(data, whole):
        if len(found) >= MAX_REFERENCES:
            break
        found.append(_text(data, part))
    return found


def _cookie(message: Message) -> bytes | None:
    """RFC 2696 2: the place where the next page begins; empty after the last one."""
    if message.controls is None:
        return None
    data = message.data
    for control in parts(data, message.controls):
        fields = list(parts(data, control))
        if fields and data[fields[0].start : fields[0].stop] == PAGED_RESULTS:
            value = fields[-1]
            pair = element(data, value.start, value.stop)
            size = element(data, pair.start, pair.stop)
            cookie = element(data, size.stop, pair.stop)
            return data[cookie.start : cookie.stop]
    return None


def _integer(data: bytes, part: Part) -> int:
    if not 1 <= part.stop - part.start <= _MAX_INTEGER:
        raise Malformed
    return int.from_bytes(data[part.start : part.stop], "big", signed=True)


def _text(data: bytes, part: Part) -> str:
    return data[part.start : part.stop].decode("utf-8", "replace")
