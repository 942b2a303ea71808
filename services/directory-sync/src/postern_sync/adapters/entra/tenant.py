"""One customer's tenant, ready to be asked: its settings, its secrets in plain, and how patient to be."""

from dataclasses import dataclass, field
from pathlib import Path

from postern_common.directory_documents import EntraDocument
from postern_sync.adapters.entra.clouds import places_of
from postern_sync.adapters.entra.graph import Alive, Graph, Patience
from postern_sync.adapters.entra.token import Credential, Tokens
from postern_sync.settings import SyncSettings


@dataclass(frozen=True, slots=True)
class Tenant:
    """What leads into a tenant; the credential is shown nowhere."""

    entra: EntraDocument
    credential: Credential = field(repr=False)
    settings: SyncSettings
    patience: Patience = field(default_factory=Patience)

    @property
    def scratch_dir(self) -> Path | None:
        """Where scratch files of a reading are."""
        return self.settings.sync_scratch_dir

    def tokens(self) -> Tokens:
        """The tokens of the application."""
        settings = self.settings
        return Tokens(
            places_of(self.entra, settings),
            self.credential,
            ca_file=settings.sync_ca_file,
            discovers=settings.sync_entra_instance_discovery,
        )

    def graph(self, alive: Alive, patience: Patience | None = None) -> Graph:
        """Graph for the application; `alive` is asked before every request and while waiting."""
        return Graph(
            places_of(self.entra, self.settings).graph,
            self.tokens(),
            ca_file=self.settings.sync_ca_file,
            patience=patience or self.patience,
            alive=alive,
        )
