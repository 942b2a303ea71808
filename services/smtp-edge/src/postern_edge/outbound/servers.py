"""The next hops that this process talks to: their open connections, how many at a time, and which are left out (SPEC
R3, R11).

A connection is kept for some idle seconds and used again. One that turns out stale when it is used again is replaced
without a word: that says nothing about the message (CASES 61). A server's address is judged after each resolution,
right before the connection to that very address (SPEC R12). A connection is used for another delivery only if it
meets that one's TLS policy too.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from postern_common.errors import Temporary
from postern_common.netguard import NetGuard
from postern_edge.adapters.resolver import NoSuchName, Resolver
from postern_edge.adapters.smtp import Connection, Timeouts, Unusable
from postern_edge.outbound.gates import Gate, Places
from postern_edge.rules import breaker
from postern_edge.rules.breaker import Breaker
from postern_edge.rules.classify import Answer, Stage
from postern_edge.rules.pace import SLOW_SECONDS, Pace, allowed, is_slow
from postern_edge.rules.route import Server
from postern_edge.rules.tls_policy import TlsMode, TlsPolicy, meets
from postern_edge.tls_out.opening import Memory, Opener, Record
from postern_edge.tls_out.policies import Policies

MAX_USES: Final = 100  # transactions on one connection
LOOK_SECONDS: Final = 1.0
TOO_SLOW: Final = Answer(Stage.CONNECT, 0, "the mail server did not answer in 5 seconds, and others wait")
ONE_BY_ONE_SECONDS: Final = 3600.0  # for a server that offers PIPELINING and cannot do it, or broke off in the middle
FORGET_AFTER_SECONDS: Final = 900.0  # longer than any pause of the breaker

log = structlog.get_logger(__name__)
_CONNECTIONS: Final = Gauge("postern_edge_outbound_connections", "Connections to next hops that are in use.")
_OPENED: Final = Counter("postern_edge_outbound_opened_total", "Connections opened.", ["tls"])  # tls: yes | no
_REUSED: Final = Counter("postern_edge_outbound_reused_total", "Connections used again.")
_LEFT_OUT: Final = Counter("postern_edge_outbound_left_out_total", "Attempts not made because a server is left out.")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the pool may do."""

    hostname: str
    timeouts: Timeouts = field(default_factory=Timeouts)
    per_server: int = 20
    total: int = 200
    idle_seconds: float = 5.0


@dataclass(slots=True)
class _Idle:
    connection: Connection
    since: float
    uses: int


class _Hop:
    """One server, as (host, port, tls)."""

    def __init__(self, policy: Policy) -> None:
        self.breaker = Breaker()
        self.pace = Pace()
        self.idle: list[_Idle] = []
        self.tls = Memory()
        self.users = 0  # in line or at work: it is not forgotten meanwhile
        self.used_at = 0.0
        self.one_by_one_until = 0.0
        self.gate = Gate(lambda: allowed(self.pace, policy.per_server))

    def is_in_doubt(self, now: float) -> bool:
        """Whether it did not take anything lately, or not quickly."""
        return self.breaker.failures > 0 or is_slow(self.pace, now)


class LeftOut(Exception):
    """The server is left out for now, or too many wait for it."""


class Servers:
    """Hands out connections; see `use`."""

    def __init__(
        self, policy: Policy, resolver: Resolver, guard: NetGuard, now: Callable[[], datetime], record: Record
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._guard = guard
        self._now = now
        self._policies = Policies(resolver)
        self._opener = Opener(self._connect, record)
        self._hops: dict[tuple[str, int, TlsMode], _Hop] = {}
        self._places = Places(policy.total)

    def is_left_out(self, server: Server) -> bool:
        """Whether the breaker keeps attempts away."""
        hop = self._hops.get(server.place)
        return hop is not None and not breaker.permits(hop.breaker, self._now())

    def waiting(self, server: Server) -> int:
        """How many deliveries stand in line for a server."""
        hop = self._hops.get(server.place)
        return 0 if hop is None else hop.gate.waiting

    @asynccontextmanager
    async def use(self, server: Server, customer_id: str, *, fresh: bool = False) -> AsyncIterator[Connection]:
        """A connection for one transaction; kept afterwards if it is clean. Raises `Unusable`, `LeftOut`."""
        loop = asyncio.get_running_loop()
        policy = await self._policies.of(server)
        if policy.refusal is not None:
            raise self._opener.refuse(server, policy, policy.refusal)
        hop = self._hops.get(server.place)
        if hop is None:
            hop = self._hops[server.place] = _Hop(self._policy)
        hop.users += 1
        try:
            # The server's own line first, so that a slow server holds up nobody else.
            async with (
                hop.gate.passed(),
                self._places.taken(customer_id, in_doubt=hop.is_in_doubt(loop.time())),
            ):
                taken = None if fresh else self._take_idle(hop, policy)
                began = hop.pace.begin(loop.time())
                try:
                    if taken is None:
                        taken = _Idle(await self._open(server, policy, hop), 0.0, 0)
                    async with self._lent(hop, taken) as connection:
                        yield connection
                    hop.pace.succeeded(loop.time() - began)
                finally:
                    hop.pace.end(began)
        finally:
            hop.users -= 1
            hop.used_at = loop.time()

    @asynccontextmanager
    async def _lent(self, hop: _Hop, taken: _Idle) -> AsyncIterator[Connection]:
        connection, loop = taken.connection, asyncio.get_running_loop()
        connection.one_by_one = loop.time() < hop.one_by_one_until
        _CONNECTIONS.inc()
        try:
            yield connection
        except Unusable as error:
            connection.close()
            if connection.lost_its_place:
                hop.one_by_one_until = loop.time() + ONE_BY_ONE_SECONDS
            if not error.answer.code and not connection.used:
                self._failed(hop, error)  # it answers, and then falls silent
            raise
        except BaseException:
            connection.close()
            raise
        finally:
            _CONNECTIONS.dec()
        hop.breaker = breaker.succeeded(hop.breaker)
        if (
            not connection.is_open
            or connection.in_transaction
            or taken.uses + 1 >= MAX_USES
            or not self._policy.idle_seconds
        ):
            connection.close()
            return
        connection.used = True
        hop.idle.append(_Idle(connection, loop.time(), taken.uses + 1))

    def _take_idle(self, hop: _Hop, policy: TlsPolicy) -> _Idle | None:
        oldest = asyncio.get_running_loop().time() - self._policy.idle_seconds
        others: list[_Idle] = []
        found = None
        while hop.idle and found is None:
            taken = hop.idle.pop()
            connection = taken.connection
            if not connection.is_open or taken.since < oldest:
                connection.close()
            elif meets(connection.met, policy.requirement, is_secure=connection.secure):
                _REUSED.inc()
                found = taken
            else:
                others.append(taken)
        hop.idle += reversed(others)
        return found

    async def _open(self, server: Server, policy: TlsPolicy, hop: _Hop) -> Connection:
        now = self._now()
        if not breaker.permits(hop.breaker, now):
            _LEFT_OUT.inc()
            raise LeftOut
        hop.breaker = breaker.attempted(hop.breaker, now)
        try:
            connection = await self._reach_in_time(server, policy, hop)
        except Unusable as error:
            if server.receiving is not None and error.shows_life:
                hop.breaker = breaker.succeeded(hop.breaker)  # for other domains it may well be good
            else:
                self._failed(hop, error)
            raise
        _OPENED.labels("yes" if connection.secure else "no").inc()
        return connection

    def _failed(self, hop: _Hop, error: Unusable) -> None:
        before = hop.breaker
        hop.breaker = breaker.failed(before, self._now())
        if hop.breaker.open_until is not None and before.open_until is None:
            log.warning("next_hop_left_out", reason=str(error))

    async def _reach_in_time(self, server: Server, policy: TlsPolicy, hop: _Hop) -> Connection:
        """A server in doubt has less time while others wait for its place."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not hop.is_in_doubt(began):
            return await self._opener.open(server, policy, hop.tls)
        reaching = loop.create_task(self._opener.open(server, policy, hop.tls))
        try:
            while not (await asyncio.wait({reaching}, timeout=LOOK_SECONDS))[0]:
                if self._places.is_crowded and loop.time() - began > SLOW_SECONDS:
                    raise Unusable(TOO_SLOW)
            return reaching.result()
        finally:
            if not reaching.done():
                reaching.cancel()
                await asyncio.wait({reaching})
                if not reaching.cancelled() and reaching.exception() is None:
                    reaching.result().close()

    async def _connect(self, server: Server) -> Connection:
        """Try each permitted address of the server."""
        try:
            addresses = await self._resolver.addresses(server.host)
        except NoSuchName as error:
            raise Unusable(Answer(Stage.CONNECT, 0, "the mail server's name does not exist")) from error
        except Temporary as error:
            raise Unusable(Answer(Stage.CONNECT, 0, "the mail server's name cannot be resolved now")) from error
        permitted = [address for address in addresses if self._guard.permits(address)]
        if not permitted:
            raise Unusable(Answer(Stage.CONNECT, 0, "the mail server's address is not allowed"))
        failure: Unusable | None = None
        for address in random.sample(permitted, len(permitted))[:3]:
            try:
                return await Connection.open(address, server.port, self._policy.hostname, self._policy.timeouts)
            except Unusable as error:
                failure = error
        raise failure or Unusable(Answer(Stage.CONNECT, 0, "connection failed"))

    async def run(self) -> None:
        """Close connections that stood idle, forget servers long unused; until cancelled."""
        while True:
            await asyncio.sleep(max(self._policy.idle_seconds, 0.5) / 2)
            now = asyncio.get_running_loop().time()
            goodbyes = []
            for place, hop in list(self._hops.items()):
                stale = [one.connection for one in hop.idle if now - one.since > self._policy.idle_seconds]
                hop.idle = [one for one in hop.idle if now - one.since <= self._policy.idle_seconds]
                goodbyes += [connection.quit() for connection in stale]
                if not hop.idle and not hop.users and now - hop.used_at > FORGET_AFTER_SECONDS:
                    del self._hops[place]
            await asyncio.gather(*goodbyes)

    async def close(self) -> None:
        """Say goodbye on all idle connections."""
        idle = [one.connection for hop in self._hops.values() for one in hop.idle]
        for hop in self._hops.values():
            hop.idle = []
        await asyncio.gather(*(connection.quit() for connection in idle))


@dataclass(frozen=True, slots=True)
class ForCustomer:
    """The servers as one customer's deliveries use them."""

    servers: Servers
    customer_id: str

    def is_left_out(self, server: Server) -> bool:
        """Whether the breaker keeps attempts away."""
        return self.servers.is_left_out(server)

    def use(self, server: Server, *, fresh: bool = False) -> AbstractAsyncContextManager[Connection]:
        """See `Servers.use`."""
        return self.servers.use(server, self.customer_id, fresh=fresh)
