"""DNS for deliveries: addresses of mail servers and mail exchangers of domains, by dnspython's asynchronous resolver.

Every look-up is bounded in time. "There is no such name" and "cannot tell" are told apart; answers are kept for their
TTL within bounds. The servers asked come from the settings, so that tests and closed networks can use their own.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdata
import dns.resolver
from dns.rdtypes.ANY.MX import MX

from postern_common.errors import Temporary

LIFETIME_SECONDS: Final = 10.0
SHORTEST_KEPT: Final = 5.0
LONGEST_KEPT: Final = 300.0
KEPT_NAMES: Final = 10_000


class NoSuchName(Exception):
    """The name has no records of the kind asked for; certain, not a failure to ask."""


@dataclass(frozen=True, slots=True)
class Exchanger:
    """A mail exchanger of a domain."""

    preference: int
    host: str


class Resolver:
    """Looks names up; `servers` are `address:port`, empty means those of /etc/resolv.conf."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            self._resolver.nameservers = [_nameserver(server) for server in servers]
        self._resolver.lifetime = LIFETIME_SECONDS
        self._resolver.timeout = LIFETIME_SECONDS / 3
        self._kept: dict[tuple[str, str], tuple[float, list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, IPv6 after IPv4; an address stands for itself. Raises `NoSuchName`, `Temporary`."""
        literal = _literal(host)
        if literal is not None:
            return [literal]
        found: list[str] = []
        failure: Temporary | None = None
        for kind in ("A", "AAAA"):
            try:
                found += await self._ask(host, kind)
            except NoSuchName:
                continue
            except Temporary as error:
                failure = error
        if found:
            return found
        raise failure or NoSuchName(host)

    async def exchangers(self, domain: str) -> list[Exchanger]:
        """Where a domain takes mail, best first: its MX, else the domain itself; empty for a null MX.

        Raises `NoSuchName` where the domain has neither (RFC 5321 5.1, RFC 7505 3).
        """
        try:
            records = await self._ask(domain, "MX")
        except NoSuchName:
            await self.addresses(domain)
            return [Exchanger(0, domain)]
        exchangers = [
            Exchanger(int(preference), host) for preference, _, host in (text.partition(" ") for text in records)
        ]
        return sorted((one for one in exchangers if one.host), key=lambda one: one.preference)

    async def _ask(self, name: str, kind: str) -> list[str]:
        kept = self._kept.get((name, kind))
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        try:
            answer = await self._resolver.resolve(f"{name.rstrip('.')}.", kind)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer) as error:
            raise NoSuchName(name) from error
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise Temporary(f"dns {kind}: {type(error).__name__}") from error
        records = [_text(record) for record in answer]
        ttl = answer.rrset.ttl if answer.rrset is not None else 0
        if len(self._kept) >= KEPT_NAMES:
            self._kept.clear()
        self._kept[name, kind] = (time.monotonic() + min(max(ttl, SHORTEST_KEPT), LONGEST_KEPT), records)
        return records


def _text(record: dns.rdata.Rdata) -> str:
    if isinstance(record, MX):
        return f"{record.preference} {record.exchange.to_text(omit_final_dot=True).rstrip('.').lower()}"
    return record.to_text()


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host.strip("[]").removeprefix("IPv6:")))
    except ValueError:
        return None


def _nameserver(server: str) -> dns.nameserver.Do53Nameserver:
    address, _, port = (
        server.rpartition(":") if server.count(":") == 1 or server.startswith("[") else (server, "", "53")
    )
    return dns.nameserver.Do53Nameserver(address.strip("[]"), int(port or 53))
