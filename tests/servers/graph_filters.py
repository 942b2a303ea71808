"""As much of Graph's `$filter` as the tests use."""

import re
from typing import Any

_TERM = re.compile(
    r"(?P<name>\w+) eq (?P<value>'(?:[^']|'')*'|true|false)|startswith\((?P<at>\w+), '(?P<start>(?:[^']|'')*)'\)"
    r"|proxyAddresses/any\(p:startswith\(p, '(?P<proxy>(?:[^']|'')*)'\)\)"
)


def fits(found: dict[str, Any], text: str) -> bool:
    """Whether an object fits; raises `ValueError` for what is no filter."""
    if not text:
        return True
    parts = [part.strip("() ") if part.count("(") != part.count(")") else part for part in text.split(" and ")]
    return all(any(_term(found, term.strip()) for term in _unwrapped(part).split(" or ")) for part in parts)


def _unwrapped(text: str) -> str:
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _term(found: dict[str, Any], text: str) -> bool:
    term = _TERM.fullmatch(text)
    if term is None:
        raise ValueError(text)
    if term["name"]:
        wanted = {"true": True, "false": False}.get(term["value"], term["value"].strip("'").replace("''", "'"))
        return bool(found.get(term["name"]) == wanted)
    start = (term["start"] or term["proxy"] or "").replace("''", "'").lower()
    values = [found.get(term["at"]) or ""] if term["at"] else found.get("proxyAddresses") or []
    return any(value.lower().startswith(start) for value in values)
