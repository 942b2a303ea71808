"""Which names can be added as domains (SPEC D5), and how their records are named in a provider's form.

The registered domain comes from the Public Suffix List. A top-level domain that the list does not know counts as a
suffix of one label, so that private ones work.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from publicsuffixlist import PublicSuffixList

from postern_common.addresses import DomainName, parse_domain
from postern_common.errors import Rejected

CHALLENGE_LABEL: Final = "_postern-challenge"
VALUE_PREFIX: Final = "postern-verification="
TTL_SECONDS: Final = 300
MAX_STRING: Final = 255  # RFC 1035 3.3
# RFC 6761 6: names that never belong to anybody in public; tests and demonstrations use them.
RESERVED_TOP: Final = frozenset({"test", "example", "invalid", "onion", "localhost"})


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def parse_customer_domain(text: str, *, is_production: bool, pointer: str = "/name") -> DomainName:
    """The domain named by `text`; refuses what no customer can own, with the reason."""
    name = parse_domain(text, pointer=pointer)
    if is_production and name.ascii.rsplit(".", 1)[-1] in RESERVED_TOP:
        raise _refused("is reserved and belongs to nobody", pointer)
    if _suffixes().is_public(name.ascii):
        raise _refused("is a public suffix, below which anybody can register", pointer)
    longest = len(f"{CHALLENGE_LABEL}.{name.ascii}")
    if longest > 253:
        raise _refused(f"is too long for its verification record ({longest} of 253 octets)", pointer)
    return name


def _refused(reason: str, pointer: str) -> Rejected:
    return Rejected("invalid-domain", f"The domain name {reason}.", pointer=pointer)


def registered_domain(ascii_name: str) -> str:
    """The name that was registered, under which providers keep the zone: `acme.com` for `eng.acme.com`."""
    return str(_suffixes().privatesuffix(ascii_name) or ascii_name)


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A record as a provider's form wants it, and as a line of a zone file."""

    host: str
    value: str
    zone_line: str


def verification_records(ascii_name: str, code: str) -> tuple[DnsRecord, DnsRecord]:
    """The two places that prove ownership: the domain itself, then its challenge label (SPEC D1).

    Providers append the zone to what is typed, so that the host is relative to it: `_postern-challenge.eng` in the zone
    acme.com for eng.acme.com (CASES 27), and `@` for the zone's own name.
    """
    value = VALUE_PREFIX + code
    return txt_record(ascii_name, ascii_name, value), txt_record(f"{CHALLENGE_LABEL}.{ascii_name}", ascii_name, value)


def txt_record(owner: str, ascii_name: str, value: str) -> DnsRecord:
    """A TXT record of `owner`, which is the domain `ascii_name` or below it; `value` is ASCII without quotes."""
    parts = [value[at : at + MAX_STRING] for at in range(0, len(value), MAX_STRING)]
    texts = " ".join(f'"{part}"' for part in parts)
    return DnsRecord(_typed_host(owner, ascii_name), value, f"{owner}. {TTL_SECONDS} IN TXT {texts}")


def cname_record(owner: str, ascii_name: str, target: str) -> DnsRecord:
    """A CNAME record of `owner`, which is below the domain `ascii_name`."""
    return DnsRecord(_typed_host(owner, ascii_name), target, f"{owner}. {TTL_SECONDS} IN CNAME {target}.")


def _typed_host(owner: str, ascii_name: str) -> str:
    return owner.removesuffix(registered_domain(ascii_name)).removesuffix(".") or "@"
