"""Reverse and forward paths of MAIL and RCPT (RFC 5321 4.1.2, RFC 6531 3.3), parsed cheaply and strictly.

A plain `<local@domain>` is settled by one regular expression; quoted local parts, address literals, source routes
and international addresses take the long way. Two departures from the letter, both harmless: underscores are let
through in a domain's labels, since senders' host names have them, and source routes are read and ignored (RFC 5321
appendix C).
"""

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from postern_common.addresses import address_key, parse_domain
from postern_common.errors import Rejected

MAX_LOCAL: Final = 64  # RFC 5321 4.5.3.1.1
MAX_DOMAIN: Final = 255  # RFC 5321 4.5.3.1.2
MAX_PATH: Final = 256  # RFC 5321 4.5.3.1.3, angle brackets included

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PLAIN = re.compile(rf"<({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)>")
_ROUTE = re.compile(r"@[^,:@\s<>]+(?:,@[^,:@\s<>]+)*:")
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOT_STRING_UTF8 = re.compile(_DOT_STRING.pattern.replace("[A-Z", "[\x80-\U0010ffffA-Z"))
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])+"')
_QUOTED_UTF8 = re.compile(_QUOTED.pattern.replace("[ !#", "[\x80-\U0010ffff !#"))
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class PathProblem(Enum):
    """Why a path was refused."""

    SYNTAX = "syntax"
    TOO_LONG = "too_long"
    NEEDS_SMTPUTF8 = "needs_smtputf8"


class BadPath(Exception):
    """The path is none; `problem` says in which way."""

    def __init__(self, problem: PathProblem) -> None:
        super().__init__(problem.value)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox as an SMTP client named it: the local part as written, the domain as a lower-case A-label.

    The domain is "" for `<postmaster>` (RFC 5321 4.1.1.3) and keeps its brackets for an address literal.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def key(self) -> str:
        """What two spellings of one address have in common (SPEC U4)."""
        return address_key(self.local, self.domain)


def split_path(text: str) -> tuple[str, str]:
    """Split the argument of MAIL FROM: or RCPT TO: into the path with its brackets and what follows it."""
    if not text.startswith("<"):
        raise BadPath(PathProblem.SYNTAX)  # CASES 49: brackets are not optional
    end = text.find(">") if '"' not in text else _end_of_quoted_path(text)
    if end < 0:
        raise BadPath(PathProblem.SYNTAX)
    rest = text[end + 1 :]
    if rest and not rest.startswith(" "):
        raise BadPath(PathProblem.SYNTAX)
    return text[: end + 1], rest


def _end_of_quoted_path(text: str) -> int:
    """Index of the `>` that closes the path, which a quoted local part may hold too."""
    quoted = False
    index = 0
    while index < len(text):
        char = text[index]
        if char == "\\" and quoted:
            index += 1
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            return index
        index += 1
    return -1


def parse_reverse_path(path: str, *, smtputf8: bool) -> Mailbox | None:
    """The sender in `<…>`; None is the null sender `<>` (RFC 5321 4.5.5)."""
    if path == "<>":
        return None
    return _parse(path, smtputf8=smtputf8)


def parse_forward_path(path: str, *, smtputf8: bool) -> Mailbox:
    """The recipient in `<…>`; `<postmaster>` stands without a domain (RFC 5321 4.1.1.3)."""
    if path[1:-1].lower() == "postmaster":
        return Mailbox(path[1:-1], "")
    return _parse(path, smtputf8=smtputf8)


def _parse(path: str, *, smtputf8: bool) -> Mailbox:
    plain = _PLAIN.fullmatch(path)
    if plain is None or "xn--" in path.lower():
        return _parse_slowly(path, smtputf8=smtputf8)
    local, domain = plain.groups()
    if len(local) > MAX_LOCAL or len(path) > MAX_PATH:  # which bounds the domain too
        raise BadPath(PathProblem.TOO_LONG)
    return Mailbox(local, domain.lower())


def _parse_slowly(path: str, *, smtputf8: bool) -> Mailbox:
    if _octets(path) > MAX_PATH:
        raise BadPath(PathProblem.TOO_LONG)
    inner = path[1:-1]
    if inner.startswith("@"):  # RFC 5321 appendix C: a source route is accepted and ignored
        route = _ROUTE.match(inner)
        if route is None:
            raise BadPath(PathProblem.SYNTAX)
        inner = inner[route.end() :]
    if _CONTROL.search(inner):
        raise BadPath(PathProblem.SYNTAX)
    if not inner.isascii() and not smtputf8:
        raise BadPath(PathProblem.NEEDS_SMTPUTF8)  # RFC 6531 3.4
    local, at, domain = inner.rpartition("@")
    if not at or not _is_local_part(local):
        raise BadPath(PathProblem.SYNTAX)
    if _octets(local) > MAX_LOCAL or _octets(domain) > MAX_DOMAIN:
        raise BadPath(PathProblem.TOO_LONG)
    return Mailbox(local, _domain(domain))


def _is_local_part(local: str) -> bool:
    """RFC 5321 4.1.2 Local-part, with the additions of RFC 6531 3.3."""
    if local.startswith('"'):
        return _QUOTED_UTF8.fullmatch(local) is not None
    return _DOT_STRING_UTF8.fullmatch(local) is not None


def _domain(text: str) -> str:
    if text.startswith("["):
        return _literal(text)
    if text.isascii() and "xn--" not in text.lower():
        if _DOMAIN.fullmatch(text) is None:
            raise BadPath(PathProblem.SYNTAX)
        return text.lower()
    if text.endswith("."):
        raise BadPath(PathProblem.SYNTAX)
    try:
        return parse_domain(text).ascii  # one form for U-labels and A-labels (SPEC D5)
    except Rejected:
        raise BadPath(PathProblem.SYNTAX) from None


def _literal(text: str) -> str:
    """RFC 5321 4.1.3 address literals; the address is kept in its shortest form."""
    if not text.endswith("]"):
        raise BadPath(PathProblem.SYNTAX)
    inner = text[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{IPv6Address(inner[5:])}]"
        return f"[{IPv4Address(inner)}]"
    except ValueError:
        raise BadPath(PathProblem.SYNTAX) from None


def _octets(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
