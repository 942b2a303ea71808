"""Which source a directory is read with. Sealed secrets are opened behind these, and nowhere else in the service."""

from postern_common.directory_documents import DirectoryDocument
from postern_common.mongo import Mongo
from postern_common.secrets import SecretBox
from postern_sync.settings import SyncSettings
from postern_sync.source import Source, SourceFailed


class Sources:
    """Makes sources."""

    def __init__(self, settings: SyncSettings, secrets: SecretBox, mongo: Mongo) -> None:
        self._settings = settings
        self._secrets = secrets
        self._mongo = mongo

    def __call__(self, directory: DirectoryDocument, *, keeps: bool) -> Source:
        """The source for a directory; `keeps` tells whether what it reads may be kept for the next run."""
        raise SourceFailed("settings", f"{directory['provider']} directories cannot be read yet")
