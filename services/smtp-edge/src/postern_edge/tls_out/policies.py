"""The TLS policy for a mail server, from its domain's DNS (RFC 7672 2.2).

Servers that a setting names cost no look-up. For mail exchangers TLSA records are asked for where DNSSEC vouches for
the domain's MX records and for the server's addresses; those at the end of a secure alias come first.
"""

from typing import Final

from postern_common.errors import Temporary
from postern_edge.adapters.resolver import NoSuchName, Resolver
from postern_edge.rules.route import Server
from postern_edge.rules.tls_policy import TlsaFound, TlsPolicy, policy_for, without_tlsa

_NO_TLSA: Final = None


class Policies:
    """Finds policies."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def of(self, server: Server) -> TlsPolicy:
        """The policy for one server; never raises for what DNS does."""
        receiving = server.receiving
        if receiving is None or not receiving.is_secure:
            return policy_for(server.tls, server.host, receiving, _NO_TLSA)
        try:
            found = await self._tlsa(server)
        except Temporary:
            return without_tlsa(receiving, server.host)
        return policy_for(server.tls, server.host, receiving, found)

    async def _tlsa(self, server: Server) -> TlsaFound | None:
        for base in await self._bases(server.host):
            records = await self._resolver.tlsa(base, server.port)
            if records:
                return TlsaFound(base, server.port, records)
        return _NO_TLSA

    async def _bases(self, name: str) -> tuple[str, ...]:
        """The names below which a server's TLSA records may stand, best first (RFC 7672 2.2.2)."""
        try:
            host = await self._resolver.host(name)
        except NoSuchName:
            return ()
        if host.is_secure:
            return tuple(dict.fromkeys((host.name, name)))
        if host.name != name and await self._resolver.is_secure_alias(name):
            return (name,)
        return ()
