"""Looks a name up at the authoritative servers of its zone, all of them, without any cache (SPEC D2, D3, D6).

A resolver's cache would repeat for the SOA minimum that a record is not there, long after its owner added it. So the
configured resolvers are asked only where the zone begins, who serves it and at which addresses; the question itself
goes to every server of the zone. Only where none of them can be asked, the resolver's answer counts, and the look says
how old it may be. A zone's owner chooses its name servers' addresses, so each is judged by the net guard first
(SPEC R12).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from postern_common.netguard import NetGuard
from postern_dns.adapters.wire import Endpoint, Kind, Reply, ask
from postern_dns.rules.answers import DEFINITIVE, RESOLVER, Answer, Look, Server, Status

MAX_SERVERS: Final = 16
MAX_ALIASES: Final = 8
MAX_TARGETS: Final = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one server, and one name with all its servers, may take."""

    server_seconds: float = 3.0
    look_seconds: float = 12.0


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone cut with the servers below it; without servers where only a resolver can be asked."""

    name: dns.name.Name
    servers: tuple[Server, ...]

    @property
    def text(self) -> str | None:
        """The zone's name, None for the root, in which nobody types records."""
        return None if self.name == dns.name.root else self.name.to_text(omit_final_dot=True).lower()


class ZoneUnknown(Exception):
    """The resolvers could not tell where the zone is; `status` says how they failed."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.value)
        self.status = status


def configured_resolvers(servers: Sequence[str]) -> tuple[Endpoint, ...]:
    """The resolvers of `address:port` settings, else those of /etc/resolv.conf."""
    if not servers:
        return tuple(Endpoint(str(address), 53, recursive=True) for address in dns.resolver.Resolver().nameservers)
    split = [server.rpartition(":") for server in servers]
    return tuple(Endpoint(address.strip("[]"), int(port), recursive=True) for address, _, port in split)


class Resolver:
    """Makes look-ups, each one a fresh view of the world."""

    def __init__(
        self, resolvers: Sequence[Endpoint], guard: NetGuard, *, port: int = 53, limits: Limits | None = None
    ) -> None:
        self._resolvers = tuple(resolvers)
        self._guard = guard
        self._port = port
        self._limits = limits or Limits()

    async def look(self, name: str, kind: str, *, follow: bool = True) -> Look:
        """Ask all servers of the name's zone; with `follow`, look on where a CNAME points."""
        aliases = MAX_ALIASES if follow else 0
        try:
            wanted = dns.name.from_text(name)
        except dns.exception.DNSException:
            # Too long for the DNS with the challenge label before it, so nothing can be published there.
            return Look(name, None, (Answer(RESOLVER, Status.NXDOMAIN),))
        try:
            async with asyncio.timeout(self._limits.look_seconds):
                return await self._look(wanted, dns.rdatatype.from_text(kind), aliases)
        except TimeoutError:
            return Look(name, None, (Answer(RESOLVER, Status.TIMEOUT),))

    async def _look(self, name: dns.name.Name, kind: Kind, aliases_left: int) -> Look:
        text = name.to_text(omit_final_dot=True).lower()
        try:
            zone = await self._find_zone(name)
        except ZoneUnknown as error:
            return Look(text, None, (Answer(RESOLVER, error.status),))
        replies = await asyncio.gather(*(self._ask_server(server, name, kind) for server in zone.servers))
        answered = list(zip(zone.servers, replies, strict=True))
        cached_for = None
        if all(reply.status in {Status.TIMEOUT, Status.UNREACHABLE} for reply in replies):
            reply = await self._ask_resolvers(name, kind)
            if (reply.status in DEFINITIVE and reply.has_authority) or not answered:
                answered = [(RESOLVER, reply)]
                cached_for = reply.kept_for() if reply.status in DEFINITIVE else None
        answers = [self._answer(server, reply) for server, reply in answered]
        if aliases_left:
            answers = await self._follow(answers, kind, aliases_left - 1)
        return Look(text, zone.text, tuple(answers), cached_for)

    async def _follow(self, answers: list[Answer], kind: Kind, aliases_left: int) -> list[Answer]:
        # A zone's owner could have each server name another target, at each step: two are followed, the rest left open.
        targets = sorted({answer.target for answer in answers if answer.target is not None})[:MAX_TARGETS]
        looks = {target: await self._look(dns.name.from_text(target), kind, aliases_left) for target in targets}
        return [replace(answer, followed=looks.get(answer.target or "")) for answer in answers]

    async def _ask_server(self, server: Server, name: dns.name.Name, kind: Kind) -> Reply:
        if not self._guard.permits(server.address):
            return Reply(Status.FORBIDDEN)
        endpoint = Endpoint(server.address, self._port)
        return await ask(endpoint, name, kind, self._limits.server_seconds)

    async def _ask_resolvers(self, name: dns.name.Name, kind: Kind) -> Reply:
        """The first definite reply of the configured resolvers, else the last one.

        One that does not answer is asked last from then on: its silence would otherwise cost every question of a look
        so much that the look as a whole runs out of time.
        """
        reply = Reply(Status.UNREACHABLE)
        for endpoint in self._resolvers:
            reply = await ask(endpoint, name, kind, self._limits.server_seconds)
            if reply.status in DEFINITIVE:
                break
            if reply.status in {Status.TIMEOUT, Status.UNREACHABLE}:
                self._resolvers = (*(other for other in self._resolvers if other != endpoint), endpoint)
        return reply

    @staticmethod
    def _answer(server: Server, reply: Reply) -> Answer:
        target = None if reply.target is None else reply.target.to_text(omit_final_dot=True).lower()
        return Answer(server, reply.status, reply.records, target)

    # -- zones ----------------------------------------------------------------------------------------------------

    async def _find_zone(self, name: dns.name.Name) -> Zone:
        """The closest enclosing zone: the owner of the SOA that a resolver shows for the name (RFC 2308 2.1, 2.2)."""
        at = name
        while True:
            reply = await self._ask_resolvers(at, dns.rdatatype.SOA)
            message = reply.message
            if message is None or reply.status not in DEFINITIVE | {Status.LAME}:
                raise ZoneUnknown(reply.status)
            if reply.status is Status.RECORDS:
                return await self._zone_below(at, message)
            if reply.status is not Status.CNAME:
                owner = _authority_owner(message, at)
                if owner is not None:
                    return await self._zone_below(owner, message)
            if at == dns.name.root:
                raise ZoneUnknown(Status.SERVFAIL)
            at = at.parent()

    async def _zone_below(self, zone: dns.name.Name, found: dns.message.Message) -> Zone:
        referral = found.get_rrset(found.authority, zone, dns.rdataclass.IN, dns.rdatatype.NS)
        if referral is not None and not any(rrset.rdtype == dns.rdatatype.SOA for rrset in found.answer):
            hosts = [rdata.target for rdata in referral]
        else:
            reply = await self._ask_resolvers(zone, dns.rdatatype.NS)
            hosts = [dns.name.from_text(text) for text in reply.records]
        addresses = await asyncio.gather(*(self._addresses(host, found) for host in sorted(hosts)[:MAX_SERVERS]))
        servers = dict.fromkeys(server for group in addresses for server in group)
        return Zone(zone, tuple(servers)[:MAX_SERVERS])

    async def _addresses(self, host: dns.name.Name, glue: dns.message.Message) -> list[Server]:
        name = host.to_text(omit_final_dot=True).lower()
        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        replies = await asyncio.gather(*(self._ask_resolvers(host, kind) for kind in kinds))
        messages = [reply.message for reply in replies if reply.message is not None]
        found = [
            rdata.address
            for message, section in [*((message, message.answer) for message in messages), (glue, glue.additional)]
            for rrset in section
            if rrset.rdtype in kinds and (message is not glue or rrset.name == host)
            for rdata in rrset
        ]
        return [Server(name, address) for address in dict.fromkeys(found)]


def _authority_owner(message: dns.message.Message, name: dns.name.Name) -> dns.name.Name | None:
    """The zone named by the authority section: the SOA of a negative answer, or the NS records of a referral."""
    for kind in (dns.rdatatype.SOA, dns.rdatatype.NS):
        for rrset in message.authority:
            is_upward = kind == dns.rdatatype.NS and rrset.name == dns.name.root
            if rrset.rdtype == kind and name.is_subdomain(rrset.name) and not is_upward:
                return rrset.name
    return None
