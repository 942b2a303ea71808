"""DANE for SMTP (RFC 7672): which TLSA records count, which certificates they match, and which names a server may have.

Certificates come as octets; whether one vouches for another is asked of an adapter, after what stands here said which
ones the records make trust anchors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256, sha512
from typing import Final

DANE_TA: Final = 2  # RFC 7218 2.1
DANE_EE: Final = 3
_CERT, _SPKI = 0, 1  # RFC 7218 2.2
_FULL, _SHA256, _SHA512 = 0, 1, 2  # RFC 7218 2.3
_OCTETS: Final = {_SHA256: 32, _SHA512: 64}


@dataclass(frozen=True, slots=True, order=True)
class Tlsa:
    """A TLSA record (RFC 6698 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        """As in a zone file; a long one is cut, since a report only has to tell it from others."""
        return f"{self.usage} {self.selector} {self.matching} {self.data[:64].hex()}"

    @property
    def is_usable(self) -> bool:
        """Whether it says something that can be checked; PKIX-TA(0) and PKIX-EE(1) do not (RFC 7672 3.1.3)."""
        if self.usage not in {DANE_TA, DANE_EE} or self.selector not in {_CERT, _SPKI}:
            return False
        if self.matching == _FULL:
            return bool(self.data)
        return len(self.data) == _OCTETS.get(self.matching)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its public key (SubjectPublicKeyInfo), both as DER."""

    der: bytes
    spki: bytes


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """The records that count, in a stable order: usable ones, of each usage and selector those of the strongest digest
    and those without one (RFC 7671 9).
    """
    kept = sorted({record for record in records if record.is_usable})
    strongest: dict[tuple[int, int], int] = {}
    for record in kept:
        kind = record.usage, record.selector
        strongest[kind] = max(strongest.get(kind, _FULL), record.matching)
    return tuple(record for record in kept if record.matching in {_FULL, strongest[record.usage, record.selector]})


def matches(record: Tlsa, certificate: Certificate) -> bool:
    """Whether a usable record names a certificate (RFC 6698 2.1.2 to 2.1.4)."""
    selected = certificate.der if record.selector == _CERT else certificate.spki
    if record.matching == _SHA256:
        return sha256(selected).digest() == record.data
    if record.matching == _SHA512:
        return sha512(selected).digest() == record.data
    return selected == record.data


def names_the_server(records: Sequence[Tlsa], leaf: Certificate) -> bool:
    """Whether DANE-EE vouches for the server's own certificate; its names and dates do not count (RFC 7672 3.1.1)."""
    return any(record.usage == DANE_EE and matches(record, leaf) for record in records)


def anchors(records: Sequence[Tlsa], issuers: Sequence[Certificate]) -> list[bytes]:
    """The certificates (DER) that DANE-TA makes trust anchors, among those that the server sent above its own.

    A record that holds a whole certificate is an anchor itself: the server need not send that one (RFC 7671 5.2.2).
    """
    chosen = [record for record in records if record.usage == DANE_TA]
    found = [one.der for one in issuers if any(matches(record, one) for record in chosen)]
    held = [record.data for record in chosen if (record.selector, record.matching) == (_CERT, _FULL)]
    return list(dict.fromkeys(found + held))


def needs_names(records: Iterable[Tlsa]) -> bool:
    """Whether any record makes the certificate's names count."""
    return any(record.usage == DANE_TA for record in records)


def is_named(presented: Iterable[str], references: Iterable[str]) -> bool:
    """Whether a certificate's DNS names hold one of the references; `*` stands for one whole first label (RFC 7672
    3.2.3, RFC 9525 6.3).
    """
    wanted = {name.rstrip(".").lower() for name in references}
    wildcards = {f"*.{name.partition('.')[2]}" for name in wanted if name.count(".") > 1}
    return any(name.rstrip(".").lower() in wanted | wildcards for name in presented)
