"""MTA-STS policies that are hosted for customers' domains, and the DNS records around them. All pure.

After RFC 8461 and RFC 8460. A policy is plain values; its text and its id follow from them, so that what serves a
policy and what checks from outside that it is served need to agree on nothing else. The id is a digest of the text: it
changes with every change of the policy, and with nothing else, so that the owner of a domain publishes a new record
only for a new policy.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from postern_common.addresses import parse_address, parse_domain
from postern_common.errors import Rejected

Mode = Literal["none", "testing", "enforce"]

POLICY_LABEL: Final = "mta-sts"  # RFC 8461 3.3
RECORD_LABEL: Final = "_mta-sts"  # RFC 8461 3.1
REPORTS_LABEL: Final = "_smtp._tls"  # RFC 8460 3
WELL_KNOWN: Final = "/.well-known/mta-sts.txt"
MEDIA_TYPE: Final = "text/plain"
LARGEST_POLICY: Final = 64 * 1024  # RFC 8461 3.3 suggests it as the bound for who fetches one

MIN_MAX_AGE: Final = 86_400
MAX_MAX_AGE: Final = 31_557_600  # RFC 8461 3.2
DEFAULT_MAX_AGE: Final = 604_800
NONE_MAX_AGE: Final = 86_400  # RFC 8461 8.3: a policy that ends another is short-lived
MAX_PATTERNS: Final = 20
MAX_DESTINATIONS: Final = 5
LONGEST_URI: Final = 500
NULL_MX: Final = "."

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
_VALUE: Final = r"[!-:<>-~]+"
_FIELD: Final = re.compile(rf"({_NAME})=({_VALUE})")
_URI: Final = r"[!-+\--:<-~]+"  # no comma within one, so that there is one way to read a list, however long it is
_RUA: Final = re.compile(rf"rua=({_URI}(?:[ \t]*,[ \t]*{_URI})*)")
_STS_VERSION: Final = "v=STSv1"
_TLSRPT_VERSION: Final = "v=TLSRPTv1"
_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as senders see it: `mx` are patterns in lower case, `max_age` is in seconds."""

    mode: Mode
    mx: tuple[str, ...]
    max_age: int

    @property
    def text(self) -> str:
        """What is served, with CRLF line ends (RFC 8461 3.2)."""
        lines = ["version: STSv1", f"mode: {self.mode}", *(f"mx: {one}" for one in self.mx), f"max_age: {self.max_age}"]
        return "".join(f"{line}\r\n" for line in lines)

    @property
    def id(self) -> str:
        """Names this policy in the TXT record (RFC 8461 3.1): 20 letters and digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:20]

    @property
    def record(self) -> str:
        """The TXT record at `_mta-sts`."""
        return f"{_STS_VERSION}; id={self.id};"

    def covers(self, host: str) -> bool:
        """Whether a server of that name may take mail under this policy (RFC 8461 4.1)."""
        name = host.lower().rstrip(".")
        return any(_matches(pattern, name) for pattern in self.mx)

    def leaves_out(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """Those of `hosts` to which senders bring no mail while they keep to the policy."""
        return tuple(host for host in hosts if not self.covers(host))


def policy_of(stored: Mapping[str, Any]) -> Policy:
    """The policy of a stored document (`MtaStsDocument`)."""
    return Policy(stored["mode"], tuple(stored["mx"]), stored["max_age"])


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == name
    label, dot, rest = name.partition(".")
    return bool(label and dot) and rest == pattern[2:]  # the wildcard stands for one label alone


def mail_hosts(domain: str, records: Sequence[str]) -> tuple[str, ...]:
    """Where a domain's mail goes by its MX records, each as `10 mx.example.com`.

    Without MX records it goes to the domain itself (RFC 5321 5.1); a null MX names nobody (RFC 7505 3).
    """
    hosts = [record.rpartition(" ")[2].lower() for record in records]
    return tuple(host.rstrip(".") for host in hosts if host != NULL_MX) if hosts else (domain,)


def parse_pattern(text: str, *, pointer: str | None = None) -> str:
    """An MX pattern in lower case and A-labels; raise `Rejected` where it is none (RFC 8461 3.2)."""
    stripped = text.strip()
    wildcard = "*." if stripped.startswith("*.") else ""
    return wildcard + parse_domain(stripped.removeprefix("*."), pointer=pointer).ascii


def record_id(text: str) -> str | None:
    """The id that an `_mta-sts` record names; None where it is malformed (RFC 8461 3.1)."""
    fields = _fields(text, _STS_VERSION)
    if fields is None:
        return None
    ids = []
    for field in fields:
        match = _FIELD.fullmatch(field)
        if match is None:
            return None
        if match[1] == "id":
            ids.append(match[2])
    return ids[0] if len(ids) == 1 and _ID.fullmatch(ids[0]) else None


def is_sts_record(text: str) -> bool:
    """Whether a TXT record at `_mta-sts` is meant to be one; others are passed over (RFC 8461 3.1)."""
    return text.startswith(f"{_STS_VERSION};")


def is_reports_record(text: str) -> bool:
    """Whether a TXT record at `_smtp._tls` is meant to be one; others are passed over (RFC 8460 3)."""
    return text.startswith(f"{_TLSRPT_VERSION};")


def reports_record(destinations: Sequence[str]) -> str:
    """The TXT record at `_smtp._tls` that asks for reports at these URIs."""
    return f"{_TLSRPT_VERSION}; rua={','.join(destinations)}"


def report_destinations(texts: Sequence[str]) -> tuple[str, ...]:
    """Where the domain with these TXT records at `_smtp._tls` wants reports, in its order, each once, at most five.

    None where there is not exactly one record, or it is malformed (RFC 8460 3). URIs of other schemes, and those that
    are no good, are left out.
    """
    records = [text for text in texts if is_reports_record(text)]
    fields = _fields(records[0], _TLSRPT_VERSION) if len(records) == 1 else None
    found: list[str] | None = None
    for field in fields or ():
        if not field.startswith("rua="):
            if _FIELD.fullmatch(field) is None:
                return ()
        elif found is None and (match := _RUA.fullmatch(field)) is not None:
            found = [part.strip(" \t") for part in match[1].split(",")]
        else:
            return ()
    return tuple(dict.fromkeys(uri for uri in found or () if is_destination(uri)))[:MAX_DESTINATIONS]


def is_destination(uri: str) -> bool:
    """Whether a URI is one that a report can be sent to (RFC 8460 3): an https URL, or mailto with one address."""
    return len(uri) <= LONGEST_URI and (mail_address(uri) is not None or _is_https(uri))


def mail_address(uri: str) -> str | None:
    """The address of a mailto URI, whatever header fields follow it; None for another URI (RFC 6068 2)."""
    if uri[:7].lower() != "mailto:" or not _is_printable(uri):
        return None
    try:
        text = unquote(uri[7:].partition("?")[0], errors="strict")
        address = parse_address(text)
    except (Rejected, UnicodeDecodeError):
        return None
    return str(address) if text.isascii() and text == text.strip() else None


def _is_https(uri: str) -> bool:
    if not _is_printable(uri):
        return False
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
        is_named = host is not None and bool(parse_domain(host))
    except (ValueError, Rejected):
        return False
    return parts.scheme == "https" and is_named and parts.username is None and not parts.fragment


def _is_printable(uri: str) -> bool:
    return all("!" <= char <= "~" and char not in ',;!"<>\\' for char in uri)


def _fields(text: str, version: str) -> list[str] | None:
    """The fields behind a record's version, between semicolons with blanks around them; None where there are none."""
    head, *fields = [part.strip(" \t") for part in text.split(";")]
    if fields and not fields[-1]:
        fields.pop()
    return fields if text.startswith(version) and head == version and fields and all(fields) else None
