"""Where a recipient's mail goes and in which order its servers are tried (SPEC R1, R3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from postern_edge.rules.tls_policy import Receiving, TlsMode


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server to deliver to. `priority`: lowest first, equal ones in turn.

    `receiving` is the domain whose DNS named the server, and whose TLS policy counts; None where a setting did.
    """

    host: str
    port: int
    priority: int = 10
    tls: TlsMode = "opportunistic"
    receiving: Receiving | None = None

    @property
    def place(self) -> tuple[str, int, TlsMode]:
        """What it has in common with the same server of other domains."""
        return self.host, self.port, self.tls

    @property
    def label(self) -> str:
        """How the trace and events name it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Site:
    """A customer's site as the edge needs it."""

    site_id: str
    customer_id: str
    is_default: bool
    servers: tuple[Server, ...]


def choose_site(user_site: str | None, domain_site: str | None, sites: Sequence[Site]) -> Site | None:
    """The user's own site beats the domain's, which beats the default; one that is gone is passed over."""
    by_id = {site.site_id: site for site in sites}
    for wanted in (user_site, domain_site):
        if wanted is not None and wanted in by_id:
            return by_id[wanted]
    return next((site for site in sites if site.is_default), None)


def in_order(servers: Sequence[Server], shuffle: Callable[[list[Server]], None]) -> list[Server]:
    """The servers by priority, equal ones in the order that `shuffle` brings them into."""
    mixed = list(servers)
    shuffle(mixed)
    return sorted(mixed, key=lambda server: server.priority)
