"""From a customer's settings to a tenant that can be read, tested and looked at."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from postern_common.directory_documents import DirectoryDocument, DirectoryRequestDocument, EntraDocument
from postern_common.secrets import SecretBox, SecretsError
from postern_sync.adapters.entra.browse import browse
from postern_sync.adapters.entra.graph import Patience
from postern_sync.adapters.entra.probe import test
from postern_sync.adapters.entra.source import EntraSource, Following
from postern_sync.adapters.entra.tenant import Tenant
from postern_sync.adapters.entra.token import Credential
from postern_sync.mirror.store import Mirror
from postern_sync.settings import SyncSettings
from postern_sync.source import Source, SourceFailed

_UNSET: Final = "Microsoft Entra ID is not set up."
_NO_SECRET: Final = "A client secret or a certificate is needed."  # noqa: S105 - a message
_SEALED: Final = "The stored secret cannot be opened; enter it again."


def make_entra_source(
    directory: DirectoryDocument,
    secrets: SecretBox,
    settings: SyncSettings,
    mirror: Mirror,
    *,
    keeps: bool = True,
    managed: frozenset[str] | None = None,
    patience: Patience | None = None,
) -> Source:
    """The tenant of a customer. Raises `SourceFailed` where its settings cannot be used.

    `keeps` False leaves the mirror as it is, for previews. `managed` are the customer's domains; not given, they are
    looked up.
    """
    entra = directory["entra"]
    if entra is None:
        raise SourceFailed("token", _UNSET)
    credential = _credential(entra, secrets, f"directories/{directory['customer_id']}")
    tenant = Tenant(entra, credential, settings, patience or Patience())
    following = Following(directory["delta"], timedelta(hours=directory["interval_hours"]), keeps)
    return EntraSource(tenant, mirror, following, managed)


async def answer_entra_question(
    question: DirectoryRequestDocument, secrets: SecretBox, settings: SyncSettings
) -> dict[str, Any]:
    """Answer a question that the API put: a test of settings, or a look at entries. Raises `SourceFailed`."""
    entra = cast(EntraDocument, question["settings"])
    tenant = Tenant(entra, _credential(entra, secrets, f"directory_requests/{question['_id']}"), settings)
    if question["kind"] == "browse":
        return await browse(tenant, question["query"])
    return await test(tenant, datetime.now(UTC), seconds=settings.sync_question_seconds * 0.9)


def _credential(entra: EntraDocument, secrets: SecretBox, place: str) -> Credential:
    try:
        opened = {
            name: secrets.open(sealed, f"{place}/entra.{name}").decode() if sealed else None
            for name, sealed in (
                ("client_secret", entra["client_secret"]),
                ("client_certificate", entra["client_certificate"]),
            )
        }
    except SecretsError:
        raise SourceFailed("token", _SEALED) from None
    if not any(opened.values()):
        raise SourceFailed("token", _NO_SECRET)
    return Credential(entra["client_id"], opened["client_secret"], opened["client_certificate"])
