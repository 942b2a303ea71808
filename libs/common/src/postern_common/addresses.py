"""Domain names and mail addresses as Postern compares, stores and shows them (SPEC D5, U4).

A domain is kept as its lower-case A-label and shown as its U-label. An address of one of our users compares without
regard to case in either part (`address_key`), while its own spelling is kept for showing and for the wire.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from unicodedata import normalize

import idna

from postern_common.errors import Rejected

MAX_LOCAL_OCTETS: Final = 64  # RFC 5321 4.5.3.1.1
MAX_LABEL_OCTETS: Final = 63  # RFC 1035 2.3.4
MAX_DOMAIN_OCTETS: Final = 253  # RFC 1035 2.3.4, less the root's dot and length
MAX_ADDRESS_OCTETS: Final = 254  # RFC 5321 4.5.3.1.3, less the angle brackets

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_ATEXT = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+)*"
)


@dataclass(frozen=True, slots=True)
class DomainName:
    """A domain in both forms: `ascii` (A-label, lower case, no trailing dot) and `unicode` (U-label)."""

    ascii: str
    unicode: str


@dataclass(frozen=True, slots=True)
class Address:
    """A mail address: the local part as written and the domain in both forms."""

    local: str
    domain: DomainName

    def __str__(self) -> str:
        return f"{self.local}@{self.domain.ascii}"

    @property
    def key(self) -> str:
        """What two spellings of one address have in common."""
        return address_key(self.local, self.domain.ascii)


def parse_domain(text: str, *, pointer: str | None = None) -> DomainName:
    """Return the domain named by `text`; raise `Rejected` with the reason where it is none (SPEC D5)."""
    name = text.strip().removesuffix(".")
    mistaken = _taken_for_a_domain(name)
    if mistaken is not None:
        raise _bad_domain(mistaken, pointer)
    if name.isascii() and not any(label.lower().startswith("xn--") for label in name.split(".")):
        ascii_name = name.lower()
        unicode_name = ascii_name
    else:
        ascii_name, unicode_name = _idna_forms(name, pointer)
    if len(ascii_name) > MAX_DOMAIN_OCTETS:
        raise _bad_domain(f"is longer than {MAX_DOMAIN_OCTETS} octets", pointer)
    labels = ascii_name.split(".")
    _check_labels(labels, pointer)
    if labels[-1] == "localhost":
        raise _bad_domain("is localhost, which is no public domain", pointer)
    if len(labels) < 2:
        raise _bad_domain("has only one label; a full domain name such as example.com is needed", pointer)
    if labels[-1].isdigit():
        raise _bad_domain("ends in a number, as an IP address does", pointer)
    return DomainName(ascii_name, unicode_name)


def _taken_for_a_domain(name: str) -> str | None:
    """What was given instead of a domain name, where that can be told."""
    if not name:
        return "is empty"
    if "://" in name:
        return "is a URL; give the name only"
    if "@" in name:
        return "is an address; give the part behind the @"
    if "*" in name:
        return "holds a *; each domain is named by itself"
    return "is an IP address, not a domain name" if _is_ip(name) else None


def _check_labels(labels: list[str], pointer: str | None) -> None:
    for label in labels:
        if len(label) > MAX_LABEL_OCTETS:
            raise _bad_domain(f"has a label that is longer than {MAX_LABEL_OCTETS} octets", pointer)
        if not _LABEL.fullmatch(label):
            raise _bad_domain(f"has a malformed label {label[:70]!r}", pointer)


def _idna_forms(name: str, pointer: str | None) -> tuple[str, str]:
    """Both forms of an international name by IDNA 2008 with non-transitional UTS 46 mapping (keeps the sharp s)."""
    try:
        mapped = idna.uts46_remap(name, std3_rules=True, transitional=False)
        ascii_name = idna.encode(mapped, uts46=False).decode("ascii").lower()
        return ascii_name, idna.decode(ascii_name)
    except idna.IDNAError as error:
        raise _bad_domain(f"is not a valid international domain name ({_idna_reason(error)})", pointer) from error


def _idna_reason(error: idna.IDNAError) -> str:
    text = str(error)
    return text if len(text) < 160 else text[:157] + "..."


def _is_ip(name: str) -> bool:
    try:
        ip_address(name.strip("[]").removeprefix("IPv6:"))
    except ValueError:
        return False
    return True


def _bad_domain(reason: str, pointer: str | None) -> Rejected:
    return Rejected("invalid-domain", f"The domain name {reason}.", pointer=pointer)


def parse_address(text: str, *, pointer: str | None = None) -> Address:
    """Return the address in `text` (an addr-spec with a dot-atom or quoted local part); raise `Rejected` where it is
    none.

    Control characters, blanks outside of quotes and line ends are refused, so that nothing can be smuggled into a
    header or an SMTP command (CASES 55).
    """
    stripped = text.strip()
    if _CONTROL.search(stripped):
        raise _bad_address("holds a control character or half a character", pointer)
    local, at, domain = stripped.rpartition("@")
    if not at or not local or not domain:
        raise _bad_address("needs the form name@domain", pointer)
    if len(local.encode("utf-8", "surrogatepass")) > MAX_LOCAL_OCTETS:
        raise _bad_address(f"has more than {MAX_LOCAL_OCTETS} octets before the @", pointer)
    if not _ATEXT.fullmatch(local) and not _is_quoted(local):
        raise _bad_address("has a character before the @ that is not allowed there", pointer)
    try:
        address = Address(local, _known_domain(domain))
    except Rejected as error:
        raise Rejected(error.code, error.message, pointer=pointer) from error
    if len(str(address).encode("utf-8", "surrogatepass")) > MAX_ADDRESS_OCTETS:
        raise _bad_address(f"is longer than {MAX_ADDRESS_OCTETS} octets", pointer)
    return address


@lru_cache(maxsize=4096)
def _known_domain(text: str) -> DomainName:
    """Many addresses stand in few domains: each is parsed once. A refusal is not kept."""
    return parse_domain(text)


def _is_quoted(local: str) -> bool:
    """RFC 5321 4.1.2 Quoted-string; an empty one names no mailbox."""
    if len(local) < 3 or not (local.startswith('"') and local.endswith('"')):
        return False
    inner = local[1:-1]
    return re.fullmatch(r'(?:[^"\\]|\\[ -~])+', inner) is not None


def _bad_address(reason: str, pointer: str | None) -> Rejected:
    return Rejected("invalid-address", f"The address {reason}.", pointer=pointer)


def unquote_local(local: str) -> str:
    r"""The local part without needless quoting: `"a b"` and `"a\ b"` are one mailbox (RFC 5321 4.1.2)."""
    if len(local) >= 2 and local[0] == local[-1] == '"':
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    return local


def address_key(local: str, ascii_domain: str) -> str:
    """The comparison key of an address: unquoted, case-folded local part, `@`, lower-case A-label domain.

    Letters with marks compare the same however they are composed (RFC 6532 3.1 wants NFC, and not all follow it).
    """
    folded = unquote_local(local).casefold()
    return f"{folded if folded.isascii() else normalize('NFC', folded)}@{ascii_domain.lower()}"


def strip_detail(local: str) -> str:
    """The local part without its plus-tag: `ann+news` is `ann`; a leading plus is no tag."""
    head, plus, _ = local.partition("+")
    return head if plus and head else local
