"""The string form of LDAP search filters (RFC 4515 3): whether a text is exactly one filter, and where it is not.

A tenant's filter is put inside another one, `(&(<ours>)<theirs>)`: only what is one whole filter by itself, with its
brackets, leaves the outer one as it was meant.
"""

import re
from typing import Final

MAX_DEPTH: Final = 50
_NAME: Final = r"(?:[A-Za-z][A-Za-z0-9-]*|(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+)"
ATTRIBUTE: Final = rf"{_NAME}(?:;[A-Za-z0-9-]+)*"
# RFC 4515 3: attr "=" with or without "*", ">=", "<=", "~=", or an extensible match with dn and matching rule.
_HEAD: Final = re.compile(
    rf"(?P<equal>{ATTRIBUTE}=)|{ATTRIBUTE}[<>~]=|{ATTRIBUTE}(?::[Dd][Nn])?(?::{_NAME})?:=|(?::[Dd][Nn])?:{_NAME}:="
)
_VALUE: Final = re.compile(r"(?:[^\x00()*\\]|\\[0-9A-Fa-f]{2})*")


class FilterError(ValueError):
    """The text is no filter; the message says why, for people, and `position` where (from 0)."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} (at character {position + 1})")
        self.position = position


def check_filter(text: str) -> None:
    """Raise `FilterError` unless `text` is one filter."""
    end = _filter(text, 0, 0)
    if end != len(text):
        raise FilterError("the filter has ended before; several are joined as (&(...)(...))", end)


def _filter(text: str, at: int, depth: int) -> int:
    """The position behind the filter that begins at `at`."""
    if not text.startswith("(", at):
        raise FilterError("a bracket ( is expected" if at < len(text) else "the filter is not finished", at)
    if depth >= MAX_DEPTH:
        raise FilterError(f"filters are nested more than {MAX_DEPTH} deep", at)
    inner = at + 1
    mark = text[inner : inner + 1]
    if mark == "!":
        inner = _filter(text, inner + 1, depth + 1)
    elif mark in {"&", "|"}:
        inner += 1
        while text.startswith("(", inner):  # RFC 4526 2: none at all is true, or false
            inner = _filter(text, inner, depth + 1)
    else:
        inner = _item(text, inner)
    if not text.startswith(")", inner):
        raise FilterError(_fault(text[inner : inner + 1], in_value=mark not in {"!", "&", "|"}), inner)
    return inner + 1


def _item(text: str, at: int) -> int:
    head = _HEAD.match(text, at)
    if head is None:
        raise FilterError("an attribute and a comparison are expected, such as department=Sales", at)
    end = _value(text, head.end())
    if head["equal"] is not None:
        while text.startswith("*", end):
            if text.startswith("**", end):
                raise FilterError("two * stand together", end)
            end = _value(text, end + 1)
    return end


def _value(text: str, at: int) -> int:
    found = _VALUE.match(text, at)
    return at if found is None else found.end()


def _fault(mark: str, *, in_value: bool) -> str:
    if not mark:
        return "a bracket is not closed"
    if in_value:
        return f"{mark!r} is written as \\{ord(mark):02x} within a value"
    return "a bracket ) is expected"
