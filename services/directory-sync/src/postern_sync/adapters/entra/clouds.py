"""Where Microsoft's clouds are: fixed names, so that no customer chooses where a token goes."""

from dataclasses import dataclass
from typing import Final

from postern_common.directory_documents import EntraDocument
from postern_sync.settings import SyncSettings

API: Final = "/v1.0"


@dataclass(frozen=True, slots=True)
class Places:
    """Where to sign in, where Graph is, and what a token is asked for."""

    authority: str
    graph: str
    scope: str


# Microsoft: "National cloud deployments" of Graph and of the identity platform.
_CLOUDS: Final = {
    "public": ("https://login.microsoftonline.com", "https://graph.microsoft.com"),
    "usgov": ("https://login.microsoftonline.us", "https://graph.microsoft.us"),
    "usgov_dod": ("https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
    "china": ("https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
}


def places_of(entra: EntraDocument, settings: SyncSettings) -> Places:
    """The places of a customer's cloud, unless the operator has set others."""
    login, graph = _CLOUDS[entra["cloud"]]
    authority = settings.sync_entra_authority_url or login
    return Places(f"{authority}/{entra['tenant']}", (settings.sync_graph_url or graph) + API, f"{graph}/.default")
