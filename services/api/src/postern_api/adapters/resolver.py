"""Addresses of host names that tenants typed, asked of the configured resolvers with a bound on time."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

SECONDS: Final = 6.0


class NoAddress(Exception):
    """The name leads to no address; the text is for people."""


class HostResolver:
    """Resolves by `servers` (`address:port`), or by the machine's own resolvers where none are given."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = tuple(servers)

    def _resolver(self) -> dns.asyncresolver.Resolver:
        if not self._servers:
            return dns.asyncresolver.Resolver()
        resolver = dns.asyncresolver.Resolver(configure=False)
        places = [server.rpartition(":") for server in self._servers]
        # A server may stand in the list with two ports, so that each is a name server object of its own.
        resolver.nameservers = [dns.nameserver.Do53Nameserver(host.strip("[]"), int(port)) for host, _, port in places]
        return resolver

    async def addresses(self, host: str) -> list[str]:
        """IPv4 addresses first, then IPv6; a literal address is its own."""
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        try:
            resolver = self._resolver()
        except dns.resolver.NoResolverConfiguration:
            raise NoAddress("No resolver is configured.") from None
        found = await asyncio.gather(*(_ask(resolver, host, kind) for kind in ("A", "AAAA")))
        addresses = [address for answer in found if isinstance(answer, list) for address in answer]
        if not addresses:
            reasons = [answer for answer in found if isinstance(answer, str)]
            raise NoAddress(reasons[0] if reasons else "The name has no address.")
        return addresses


async def _ask(resolver: dns.asyncresolver.Resolver, host: str, kind: str) -> list[str] | str:
    """The addresses, or why there are none."""
    try:
        answer = await resolver.resolve(host, kind, lifetime=SECONDS, search=False)
    except dns.resolver.NXDOMAIN:
        return "The name does not exist."
    except dns.resolver.NoAnswer:
        return []
    except dns.exception.Timeout:
        return "The name servers did not answer in time."
    except dns.exception.DNSException:
        return "The name servers gave no usable answer."
    return [record.address for record in answer]
