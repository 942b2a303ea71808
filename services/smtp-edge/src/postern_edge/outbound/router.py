"""Which servers a recipient's mail is offered to: the customer's site, or for notifications the sender's own
servers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postern_common.errors import Temporary
from postern_edge.adapters.resolver import NoSuchName, Resolver
from postern_edge.directory_index import Directory
from postern_edge.rules.classify import Answer, Stage
from postern_edge.rules.route import Server

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

    def __init__(self, directory: Directory, resolver: Resolver, mx_port: int) -> None:
        self._directory = directory
        self._resolver = resolver
        self._mx_port = mx_port

    async def route(self, message: Mapping[str, Any], recipient: Mapping[str, Any]) -> Route:
        """Where one recipient of a message goes; no servers and no answer means that none is configured."""
        domain = recipient["address"].rpartition("@")[2].lower()
        index = self._directory.index
        if message["direction"] != "dsn":
            site = index.site_for(message["customer_id"], domain, recipient["user_id"])
            return Route(site.servers if site else ())
        owner = index.owner_of(domain)
        if owner is not None:
            site = index.site_for(owner, domain, index.find_user(recipient["key"]))
            return Route(site.servers if site else ())  # never by MX: that is ourselves
        return await self._by_mx(domain)

    async def _by_mx(self, domain: str) -> Route:
        try:
            exchangers = await self._resolver.exchangers(domain)
        except NoSuchName:
            return Route(answer=NO_SUCH_DOMAIN)
        except Temporary:
            return Route(answer=NOT_RESOLVED)
        if not exchangers:
            return Route(answer=NULL_MX)
        return Route(tuple(Server(one.host, self._mx_port, one.preference) for one in exchangers[:10]))
