"""DNS for deliveries: mail exchangers of domains, addresses and TLSA records of mail servers, by dnspython's
asynchronous resolver.

Every look-up is bounded in time. "There is no such name" and "cannot tell" are told apart; answers are kept for their
TTL within bounds. The servers asked come from the settings, so that tests and closed networks can use their own. Where
they validate, an answer tells by its AD bit whether DNSSEC vouches for all of it, aliases included (RFC 6840 5.8);
where they do not, or are reached over a network that may change it, no answer is secure.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdata
import dns.resolver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TLSA import TLSA
from dns.rdtypes.ANY.TXT import TXT

from postern_common.errors import Temporary
from postern_edge.rules.dane import Tlsa

LIFETIME_SECONDS: Final = 10.0
SHORTEST_KEPT: Final = 5.0
LONGEST_KEPT: Final = 300.0
ABSENCE_KEPT: Final = 60.0  # of records that most names have not; other absences are asked for again
KEPT_NAMES: Final = 10_000
EDNS_OCTETS: Final = 1232
# On loopback, and yet they only pass on what networks bring: those of Docker, and of systemd-resolved as a proxy.
RELAYING: Final = frozenset({ip_address("127.0.0.11"), ip_address("127.0.0.54")})


class NoSuchName(Exception):
    """The name has no records of the kind asked for; certain, not a failure to ask."""


@dataclass(frozen=True, slots=True)
class Exchanger:
    """A mail exchanger of a domain."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Exchangers:
    """Where a domain takes mail, best first. `name` is what the domain is an alias of, else itself."""

    hosts: tuple[Exchanger, ...]
    name: str
    is_secure: bool


@dataclass(frozen=True, slots=True)
class Records:
    """What was found; `name` is what the name asked for is an alias of, else itself."""

    found: tuple[dns.rdata.Rdata, ...]
    name: str
    is_secure: bool


@dataclass(frozen=True, slots=True)
class Host:
    """A host's addresses, IPv6 after IPv4."""

    addresses: tuple[str, ...]
    name: str
    is_secure: bool


def are_validating(servers: Sequence[str]) -> bool:
    """Whether the AD bit of these resolvers (`address:port`) may be believed without being told so: all of them are on
    this machine, where nobody can change it on the way (RFC 4035 4.9.3, RFC 6698 A.3).
    """
    addresses = [ip_address(_split(server)[0]) for server in servers or _configured()]
    return bool(addresses) and all(address.is_loopback and address not in RELAYING for address in addresses)


class Resolver:
    """Looks names up; `servers` are `address:port`, empty means those of /etc/resolv.conf. `validating` tells that
    their AD bit counts.
    """

    def __init__(self, servers: Sequence[str] = (), *, validating: bool = False) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            self._resolver.nameservers = [_nameserver(server) for server in servers]
        self._resolver.lifetime = LIFETIME_SECONDS
        self._resolver.timeout = LIFETIME_SECONDS / 3
        self.validating = validating
        if validating:
            self._resolver.use_edns(0, dns.flags.DO, EDNS_OCTETS)
            self._resolver.flags = dns.flags.RD | dns.flags.AD  # RFC 6840 5.7
        self._kept: dict[tuple[str, str], tuple[float, Records | None]] = {}

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, IPv6 after IPv4; an address stands for itself. Raises `NoSuchName`, `Temporary`."""
        return list((await self.host(host)).addresses)

    async def host(self, host: str) -> Host:
        """A host's addresses, and whether all of them are secure. Raises `NoSuchName`, `Temporary`."""
        literal = _literal(host)
        if literal is not None:
            return Host((literal,), host, is_secure=False)
        answers: list[Records] = []
        failure: Temporary | None = None
        for kind in ("A", "AAAA"):
            try:
                answers.append(await self._ask(host, kind))
            except NoSuchName:
                continue
            except Temporary as error:
                failure = error
        if not answers:
            raise failure or NoSuchName(host)
        found = tuple(record.to_text() for answer in answers for record in answer.found)
        return Host(found, answers[0].name, is_secure=all(answer.is_secure for answer in answers))

    async def exchangers(self, domain: str) -> Exchangers:
        """Where a domain takes mail: its MX, else the domain itself; no hosts for a null MX.

        Raises `NoSuchName` where the domain has neither (RFC 5321 5.1, RFC 7505 3), and `Temporary`.
        """
        answer = await self._ask(domain, "MX", or_none=True)
        if not answer.found:
            await self.addresses(domain)
            return Exchangers((Exchanger(0, domain),), answer.name, answer.is_secure)
        exchangers = [Exchanger(one.preference, _name(one.exchange)) for one in answer.found if isinstance(one, MX)]
        best_first = sorted((one for one in exchangers if one.host), key=lambda one: one.preference)
        return Exchangers(tuple(best_first), answer.name, answer.is_secure)

    async def is_secure_alias(self, host: str) -> bool:
        """Whether DNSSEC vouches for a host's being an alias, whatever it is an alias of. Raises `Temporary`."""
        try:
            return (await self._ask(host, "CNAME", keep_absence=True)).is_secure
        except NoSuchName:
            return False

    async def tlsa(self, host: str, port: int) -> tuple[Tlsa, ...]:
        """The secure TLSA records of a server (RFC 6698 3); insecure ones are none. Raises `Temporary`."""
        try:
            answer = await self._ask(f"_{port}._tcp.{host}", "TLSA", keep_absence=True)
        except NoSuchName:
            return ()
        if not answer.is_secure:
            return ()
        return tuple(
            Tlsa(one.usage, one.selector, one.mtype, bytes(one.cert)) for one in answer.found if isinstance(one, TLSA)
        )

    async def texts(self, name: str) -> list[str]:
        """The TXT records of a name, each as one text (RFC 7208 3.3); none where there are none. Raises `Temporary`."""
        try:
            answer = await self._ask(name, "TXT", keep_absence=True)
        except NoSuchName:
            return []
        return [b"".join(one.strings).decode("ascii", "replace") for one in answer.found if isinstance(one, TXT)]

    async def _ask(self, name: str, kind: str, *, keep_absence: bool = False, or_none: bool = False) -> Records:
        """Raises `NoSuchName`, also where the name is there without such records unless `or_none`; `Temporary`."""
        kept = self._kept.get((name, kind))
        if kept is not None and kept[0] > time.monotonic():
            if kept[1] is None:
                raise NoSuchName(name)
            return kept[1]
        try:
            answer = await self._resolver.resolve(f"{name.rstrip('.')}.", kind, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN as error:
            if keep_absence:
                self._keep((name, kind), ABSENCE_KEPT, None)
            raise NoSuchName(name) from error
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise Temporary(f"dns {kind}: {type(error).__name__}") from error
        is_secure = self.validating and bool(answer.response.flags & dns.flags.AD)
        records = Records(tuple(answer.rrset or ()), _name(answer.canonical_name), is_secure)
        if answer.rrset is not None:
            self._keep((name, kind), min(max(answer.rrset.ttl, SHORTEST_KEPT), LONGEST_KEPT), records)
        elif not or_none:
            if keep_absence:
                self._keep((name, kind), ABSENCE_KEPT, None)
            raise NoSuchName(name)
        return records

    def _keep(self, key: tuple[str, str], seconds: float, records: Records | None) -> None:
        if len(self._kept) >= KEPT_NAMES:
            self._kept.clear()
        self._kept[key] = time.monotonic() + seconds, records


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).rstrip(".").lower()


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host.strip("[]").removeprefix("IPv6:")))
    except ValueError:
        return None


def _configured() -> list[str]:
    """The resolvers of /etc/resolv.conf."""
    return [
        server if isinstance(server, str) else server.answer_nameserver()
        for server in dns.resolver.Resolver(configure=True).nameservers
    ]


def _split(server: str) -> tuple[str, int]:
    address, _, port = (
        server.rpartition(":") if server.count(":") == 1 or server.startswith("[") else (server, "", "53")
    )
    return address.strip("[]"), int(port or 53)


def _nameserver(server: str) -> dns.nameserver.Do53Nameserver:
    return dns.nameserver.Do53Nameserver(*_split(server))
