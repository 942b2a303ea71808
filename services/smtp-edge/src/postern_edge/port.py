"""What all sessions of one port share: its name, limits, budget, certificate and the connections counted."""

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from postern_common.clock import Clock
from postern_common.netguard import Network
from postern_edge import metrics, replies
from postern_edge.budget import ByteBudget
from postern_edge.inbound.connect import ConnectionLimits, admit, counted_as
from postern_edge.inbound.crowd import Crowd
from postern_edge.limits import Limits
from postern_edge.replies import Reply
from postern_edge.tls import CertificateWatch

if TYPE_CHECKING:
    from postern_edge.inbound.handler import InboundHandler
    from postern_edge.protocol import EdgeSMTP


class Port:
    """One listening port."""

    def __init__(
        self,
        handler: "InboundHandler",
        *,
        hostname: str,
        clock: Clock,
        limits: Limits,
        connections: ConnectionLimits,
        budget: ByteBudget,
        tls: CertificateWatch | None = None,
        balancers: Sequence[Network] = (),
    ) -> None:
        self.handler = handler
        self.hostname = hostname
        self.clock = clock
        self.limits = limits
        self.budget = budget
        self.tls = tls
        self.draining = False
        self.sessions: set[EdgeSMTP] = set()
        self.banner = replies.banner(hostname)
        self.helo = replies.helo_ok(hostname)
        self.ehlo_in_clear = replies.ehlo_ok(hostname, limits.max_message_bytes, starttls=tls is not None)
        self.ehlo_in_tls = replies.ehlo_ok(hostname, limits.max_message_bytes, starttls=False)
        self._connections = connections
        self._crowd = Crowd(limits.crowd_seconds)
        self._balancers = tuple(balancers)
        self._taken = 0
        self._by_address: Counter[str] = Counter()

    def is_balancer(self, peer_ip: str) -> bool:
        """Whether a connection begins with the PROXY header of a load balancer; nobody else's is believed."""
        if not self._balancers or not peer_ip:
            return False
        address = ip_address(peer_ip.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._balancers)

    def expect(self, session: "EdgeSMTP") -> None:
        """Keep the time of a connection that nobody is counted for yet."""
        session.was_refused = True
        self.sessions.add(session)

    def enter(self, session: "EdgeSMTP", peer_ip: str) -> Reply | None:
        """Count a connection; a reply refuses it, and then it is not counted, so that a flood shuts out only itself."""
        network = counted_as(peer_ip)
        refusal = admit(self._connections, self._taken, self._by_address[network], draining=self.draining)
        if refusal is replies.TOO_MANY_CONNECTIONS and self._make_room(session.loop.time()):
            refusal = None
        self.sessions.add(session)
        session.was_refused = refusal is not None
        if refusal is None:
            self._taken += 1
            self._by_address[network] += 1
            metrics.count_connection("taken")
        else:
            metrics.count_connection("refused")
        return refusal

    def leave(self, session: "EdgeSMTP", peer_ip: str) -> None:
        """Take a connection off the counts."""
        self.sessions.discard(session)
        if not session.was_refused:
            self._uncount(peer_ip)

    def _make_room(self, now: float) -> bool:
        """End the session that has got nowhere for longest, if any is stale; it counts no more from here on."""
        session = cast("EdgeSMTP | None", self._crowd.stalest(self.sessions, now))
        if session is None:
            return False
        self._uncount(session.session.peer_ip)
        session.was_refused = True
        session.give_way()
        return True

    def _uncount(self, peer_ip: str) -> None:
        network = counted_as(peer_ip)
        self._taken -= 1
        self._by_address[network] -= 1
        if self._by_address[network] <= 0:
            del self._by_address[network]

    @property
    def taken(self) -> int:
        """How many connections are open that were not refused."""
        return self._taken
