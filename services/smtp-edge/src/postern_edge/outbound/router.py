"""Which servers a recipient's mail is offered to: the customer's site, or for notifications the sender's own
servers, found by MX together with the TLS policy that the domain announces (SPEC R11).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postern_common.addresses import parse_domain
from postern_common.errors import Rejected, Temporary
from postern_edge.adapters.resolver import Exchangers, NoSuchName, Resolver
from postern_edge.directory_index import Directory
from postern_edge.rules.classify import Answer, Stage
from postern_edge.rules.route import Server
from postern_edge.rules.tls_policy import Receiving
from postern_edge.tls_out.sts import StsPolicies

NO_SUCH_DOMAIN = Answer(Stage.ROUTE, 0, "5.1.2 the recipient's domain does not exist", permanent=True)
NULL_MX = Answer(Stage.ROUTE, 0, "5.1.10 the recipient's domain takes no mail", permanent=True)  # RFC 7505 4.2
NOT_RESOLVED = Answer(Stage.ROUTE, 0, "the recipient's domain cannot be looked up now")


@dataclass(frozen=True, slots=True)
class Route:
    """Servers to try, or the answer that stands for them."""

    servers: tuple[Server, ...] = ()
    answer: Answer | None = None


class Router:
    """Finds routes in the directory, and by DNS for domains that are not ours."""

    def __init__(self, directory: Directory, resolver: Resolver, sts: StsPolicies, mx_port: int) -> None:
        self._directory = directory
        self._resolver = resolver
        self._sts = sts
        self._mx_port = mx_port

    async def route(self, message: Mapping[str, Any], recipient: Mapping[str, Any]) -> Route:
        """Where one recipient of a message goes; no servers and no answer means that none is configured.

        Raises `Temporary` while nobody can tell which TLS policy holds.
        """
        domain = recipient["address"].rpartition("@")[2].lower()
        index = self._directory.index
        if message["direction"] != "dsn":
            site = index.site_for(message["customer_id"], domain, recipient["user_id"])
            return Route(site.servers if site else ())
        owner = index.owner_of(domain)
        if owner is not None:
            site = index.site_for(owner, domain, index.find_user(recipient["key"]))
            return Route(site.servers if site else ())  # never by MX: that is ourselves
        return await self._by_mx(_ascii(domain), heeds_policy=not message.get("tls_waived"))

    async def _by_mx(self, domain: str, *, heeds_policy: bool) -> Route:
        try:
            found = await self._resolver.exchangers(domain)
        except NoSuchName:
            return Route(answer=NO_SUCH_DOMAIN)
        except Temporary:
            return Route(answer=NOT_RESOLVED)
        if not found.hosts:
            return Route(answer=NULL_MX)
        receiving = await self._receiving(domain, found) if heeds_policy else None
        return Route(
            tuple(Server(one.host, self._mx_port, one.preference, receiving=receiving) for one in found.hosts[:10])
        )

    async def _receiving(self, domain: str, found: Exchangers) -> Receiving:
        sts = await self._sts.of(domain)
        names = tuple(dict.fromkeys((domain, found.name))) if found.is_secure else (domain,)
        return Receiving(domain, names, found.is_secure, sts.policy, sts.fault)


def _ascii(domain: str) -> str:
    """The domain's A-label, by which policies are known; what is no domain goes as it is, and DNS will tell."""
    try:
        return parse_domain(domain).ascii
    except Rejected:
        return domain
