"""Which source a directory is read with, and who answers questions to it.

Sealed secrets are opened behind these, and nowhere else in the service. What one provider needs is imported when its
first directory is read.
"""

from typing import Any, cast

from postern_common.directory_documents import DirectoryDocument, DirectoryRequestDocument
from postern_common.mongo import Mongo
from postern_common.secrets import SecretBox
from postern_sync.mirror.store import Mirror
from postern_sync.settings import SyncSettings
from postern_sync.source import Source

Document = dict[str, Any]


class Sources:
    """Makes sources, and answers questions."""

    def __init__(self, settings: SyncSettings, secrets: SecretBox, mongo: Mongo) -> None:
        self._settings = settings
        self._secrets = secrets
        self._mongo = mongo

    def __call__(self, directory: DirectoryDocument, *, keeps: bool) -> Source:
        """The source for a directory; `keeps` tells whether what it reads may be kept for the next run.

        Raises `SourceFailed` where the settings cannot be used.
        """
        if directory["provider"] == "ldap":
            if directory["ldap"] is not None and directory["ldap"]["connection"] == "agent":
                from postern_sync.agent_rounds.source import make_agent_source  # noqa: PLC0415

                return make_agent_source(directory, self._mongo, self._settings, keeps=keeps)
            from postern_sync.adapters.ldap.factory import make_ldap_source  # noqa: PLC0415

            return make_ldap_source(directory, self._secrets, self._settings)
        from postern_sync.adapters.entra.factory import make_entra_source  # noqa: PLC0415

        mirror = Mirror(self._mongo, directory["customer_id"], "entra")
        return make_entra_source(directory, self._secrets, self._settings, mirror, keeps=keeps)

    async def answer(self, question: Document) -> Document:
        """Answer a question of the api's. Raises `SourceFailed` where it cannot be put to the directory."""
        asked = cast(DirectoryRequestDocument, question)
        if asked["provider"] == "ldap":
            if asked["settings"]["connection"] == "agent":
                from postern_sync.agent_rounds.questions import answer_agent_question  # noqa: PLC0415

                return await answer_agent_question(asked, self._mongo, self._settings)
            from postern_sync.adapters.ldap.factory import answer_ldap_question  # noqa: PLC0415

            return await answer_ldap_question(asked, self._secrets, self._settings)
        from postern_sync.adapters.entra.factory import answer_entra_question  # noqa: PLC0415

        return await answer_entra_question(asked, self._secrets, self._settings)
