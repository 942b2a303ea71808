"""What TLS a delivery must have: the choice among a next hop's own setting, DANE and MTA-STS (SPEC R11).

The stricter one of what an administrator set and what the receiving domain publishes wins. DANE comes before MTA-STS
(RFC 8461 2). What cannot be had is a deferral that says why, never a delivery in clear; opportunistic TLS alone may go
on without.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from postern_common.tls_result_documents import PolicyType, ResultType
from postern_edge.rules.dane import Tlsa, needs_names, usable
from postern_edge.rules.mta_sts import StsPolicy

MOST_TOLD: Final = 30  # TLSA records of a server that reports tell
PolicyName = Literal["opportunistic", "required", "encrypt", "dane", "mta-sts"]
TlsMode = Literal["opportunistic", "required"]


class Level(IntEnum):
    """How much is wanted of a connection."""

    MAY = 0  # TLS where it is offered, whoever answers (RFC 7435)
    ENCRYPT = 1  # TLS, whoever answers
    WEBPKI = 2  # TLS to a server that a public authority names
    DANE = 3  # TLS to a server that TLSA records name


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a connection must meet. `records` and `names` with DANE alone."""

    level: Level = Level.MAY
    records: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsFault:
    """Why a session has not the TLS that is wanted, as RFC 8460 4.3 tells it, with a code of ours beside."""

    result_type: ResultType
    reason_code: str


@dataclass(frozen=True, slots=True)
class Reported:
    """Under what a session's result is counted (RFC 8460 4.4)."""

    policy_domain: str
    policy_type: PolicyType = "no-policy-found"
    policy_string: tuple[str, ...] = ()
    mx_host: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receiving:
    """The domain that a server is a mail exchanger of. `names` is the domain, and what it is an alias of (RFC 7672
    3.2.2); `is_secure` tells that DNSSEC vouches for its MX records; `sts_fault` that its policy could not be had.
    """

    domain: str
    names: tuple[str, ...]
    is_secure: bool = False
    sts: StsPolicy | None = None
    sts_fault: TlsFault | None = None


@dataclass(frozen=True, slots=True)
class TlsaFound:
    """Secure TLSA records of a server, and the name that they stand at (RFC 7672 2.2.2, "TLSA base domain")."""

    base: str
    port: int
    records: tuple[Tlsa, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """As text, for reports."""
        told = sorted(self.records)[:MOST_TOLD]
        return tuple(f"_{self.port}._tcp.{self.base}. IN TLSA {record}" for record in told)


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What is wanted of connections to one server.

    `refusal` says why the server is not asked at all. A `trial` is tried, counted, and not insisted on. `fault` counts
    for every session, whatever comes of it. `reported` is None where nothing is counted. `server_name` is asked for in
    the handshake where it is not the server's own name.
    """

    name: PolicyName
    requirement: Requirement
    trial: Requirement | None = None
    refusal: str | None = None
    fault: TlsFault | None = None
    reported: Reported | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class TlsUsed:
    """What a delivery went by: the policy that its connection met, TLS version and cipher; no version in clear."""

    policy: PolicyName
    version: str | None = None
    cipher: str | None = None

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}, {self.policy}" if self.version else "in clear"


OPPORTUNISTIC: Final = TlsPolicy("opportunistic", Requirement())
REQUIRED: Final = TlsPolicy("required", Requirement(Level.WEBPKI))
NO_STARTTLS: Final = TlsFault("starttls-not-supported", "")
NOT_IN_POLICY: Final = TlsFault("validation-failure", "mx-not-in-policy")
NOT_LOOKED_UP: Final = TlsFault("dnssec-invalid", "tlsa-lookup-failed")
UNUSABLE_RECORDS: Final = TlsFault("tlsa-invalid", "no-usable-records")


def policy_for(mode: TlsMode, host: str, receiving: Receiving | None, tlsa: TlsaFound | None) -> TlsPolicy:
    """The policy for one server; `tlsa` is what was found for it, None without DANE."""
    if mode == "required":
        return REQUIRED
    if receiving is None:
        return OPPORTUNISTIC
    if tlsa is not None:
        records = usable(tlsa.records)
        if records:
            return _dane(receiving, tlsa, records)
    sts = receiving.sts
    if sts is not None and sts.mode != "none":
        return _sts(receiving.domain, host, sts, is_encrypted=tlsa is not None)
    if tlsa is not None:  # RFC 7672 2.2: TLS all the same, though nothing tells who answers
        reported = Reported(receiving.domain, "tlsa", tlsa.lines)
        return TlsPolicy("encrypt", Requirement(Level.ENCRYPT), fault=UNUSABLE_RECORDS, reported=reported)
    return TlsPolicy("opportunistic", Requirement(), reported=Reported(receiving.domain))


def without_tlsa(receiving: Receiving, host: str) -> TlsPolicy:
    """For a server whose TLSA records cannot be looked up: it is not asked (RFC 7672 2.1.2, 2.2.3)."""
    reason = f"DANE: the TLSA records of {host} cannot be looked up securely now"
    reported = Reported(receiving.domain, "tlsa")
    return TlsPolicy("dane", Requirement(Level.DANE), refusal=reason, fault=NOT_LOOKED_UP, reported=reported)


def _dane(receiving: Receiving, tlsa: TlsaFound, records: tuple[Tlsa, ...]) -> TlsPolicy:
    # Where no name is looked at, connections for several domains are the same: they share one.
    names = tuple(dict.fromkeys((tlsa.base, *receiving.names))) if needs_names(records) else ()
    reported = Reported(receiving.domain, "tlsa", tlsa.lines)
    requirement = Requirement(Level.DANE, records, names)
    return TlsPolicy("dane", requirement, reported=reported, server_name=tlsa.base)  # RFC 7672 8.1


def _sts(domain: str, host: str, sts: StsPolicy, *, is_encrypted: bool) -> TlsPolicy:
    reported = Reported(domain, "sts", sts.lines, sts.mx)
    least = Requirement(Level.ENCRYPT if is_encrypted else Level.MAY)
    if sts.names(host):
        webpki = Requirement(Level.WEBPKI)
        if sts.mode == "enforce":
            return TlsPolicy("mta-sts", webpki, reported=reported)
        return TlsPolicy("mta-sts", least, trial=webpki, reported=reported)
    if sts.mode == "enforce":
        reason = f"MTA-STS: the policy of {domain} does not name {host}"
        return TlsPolicy("mta-sts", least, refusal=reason, fault=NOT_IN_POLICY, reported=reported)
    return TlsPolicy("encrypt" if is_encrypted else "opportunistic", least, fault=NOT_IN_POLICY, reported=reported)


def meets(have: Requirement, wanted: Requirement, *, is_secure: bool) -> bool:
    """Whether an open connection that met `have` is good enough for a delivery that wants `wanted`."""
    if wanted.level is Level.MAY:
        return True
    if wanted.level is Level.ENCRYPT:
        return is_secure
    return have == wanted
