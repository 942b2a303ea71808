"""The syntax of an SPF record: its terms, or the first one that is none (RFC 7208 4.6, 12).

Nothing is expanded: a term with a macro says so, and what it stands for depends on the message that is checked.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

MAX_SHOWN: Final = 120

_MACRO = r"%(?:\{[slodiphcrtv]\d*r?[-.+,/_=]*\}|[%_-])"
_STRING = rf"(?:{_MACRO}|[!-$&-~])*"
_DOMAIN = rf"(?P<domain>{_STRING}(?:\.(?=\d*[a-z-])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.?|{_MACRO}))"
_CIDR4 = r"/(?:3[0-2]|[12]?\d)"
_CIDR6 = r"/(?:12[0-8]|1[01]\d|[1-9]?\d)"
_HOSTS = rf"(?::{_DOMAIN})?(?:{_CIDR4})?(?:/{_CIDR6})?"

_TERM: Final = re.compile(r"(?P<qualifier>[-+?~]?)(?P<name>[a-z][a-z0-9_.-]*)(?P<argument>.*)")
_MECHANISMS: Final = {
    name: re.compile(argument)
    for name, argument in {
        "all": "",
        "include": f":{_DOMAIN}",
        "a": _HOSTS,
        "mx": _HOSTS,
        "ptr": f"(?::{_DOMAIN})?",
        "ip4": rf":(?P<address>[0-9.]+)(?:{_CIDR4})?",
        "ip6": rf":(?P<address>[0-9a-f:.]+)(?:{_CIDR6})?",
        "exists": f":{_DOMAIN}",
    }.items()
}
_MODIFIERS: Final = {name: re.compile(f"={_DOMAIN}") for name in ("redirect", "exp")}
_OTHER_MODIFIER: Final = re.compile(f"={_STRING}")
_ADDRESSES: Final = {"ip4": IPv4Address, "ip6": IPv6Address}


class BadTerm(ValueError):
    """A term that makes receivers treat the record as an error, as its owner may be shown it."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term, in lower case: a mechanism with its qualifier, or a modifier; `domain` is what it names, if it does."""

    text: str
    qualifier: str
    name: str
    domain: str | None = None

    @property
    def has_macro(self) -> bool:
        """True if what it names depends on the message."""
        return "%" in (self.domain or "")

    @property
    def shown(self) -> str:
        """The term as it is shown to people."""
        return shown(self.text)


def shown(text: str) -> str:
    """A term of anybody's record, at a length that can be read."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def is_spf(record: str) -> bool:
    """True if a TXT record is an SPF record, whatever its case (RFC 7208 4.5, 12)."""
    return record.lower() == "v=spf1" or record.lower().startswith("v=spf1 ")


def parse(record: str) -> tuple[Term, ...]:
    """All terms of a record, those behind `all` too; raises BadTerm (RFC 7208 4.6: one bad term spoils it all)."""
    terms = tuple(_term(text) for text in record.lower().split(" ")[1:] if text)
    for modifier in _MODIFIERS:  # RFC 7208 6: each of these at most once
        if len(repeated := [term for term in terms if term.name == modifier]) > 1:
            raise BadTerm(repeated[1].shown)
    return terms


def effective(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """The terms that can be evaluated: those before `all`; `redirect` comes last, and only without `all`."""
    names = [term.name for term in terms]
    if "all" in names:
        return tuple(term for term in terms[: names.index("all")] if term.name not in _MODIFIERS)  # RFC 7208 5.1
    return tuple(sorted(terms, key=lambda term: term.name == "redirect"))  # RFC 7208 6.1


def _term(text: str) -> Term:
    found = _TERM.fullmatch(text)
    if found is None:
        raise BadTerm(shown(text))
    name, argument, qualifier = found["name"], found["argument"], found["qualifier"]
    if argument.startswith("=") and not qualifier:
        pattern = _MODIFIERS.get(name)
        if pattern is None:  # RFC 7208 6: other modifiers are ignored, whatever their name
            name, pattern = f"{name}=", _OTHER_MODIFIER
    else:
        pattern = _MECHANISMS.get(name)
    matched = pattern.fullmatch(argument) if pattern is not None else None
    if matched is None or not _is_address(name, matched):
        raise BadTerm(shown(text))
    domain = matched.groupdict().get("domain")
    return Term(text, qualifier, name, domain.rstrip(".") if domain else None)


def _is_address(name: str, matched: re.Match[str]) -> bool:
    address = matched.groupdict().get("address")
    try:
        return address is None or bool(_ADDRESSES[name](address))
    except ValueError:
        return False
