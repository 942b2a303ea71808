"""A customer whose users are in an Entra tenant, which the fake serves; read alone or by whole runs."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from postern_common.documents import Collections
from postern_common.secrets import SecretBox
from postern_sync.adapters.entra.factory import answer_entra_question, make_entra_source
from postern_sync.adapters.entra.graph import Patience
from postern_sync.mirror.store import Mirror
from postern_sync.rules.entries import Entry
from postern_sync.settings import SyncSettings
from postern_sync.source import ReadReport
from tests.servers.graph_fake import CLIENT, SECRET, TENANT, GraphFake, serving
from tests.servers.stored import Stored, connect
from tests.servers.sync_source import directory_document, sync_settings

BOX = SecretBox.from_text("1:" + b64encode(b"k" * 32).decode())
QUICK = Patience(attempts=4, pause_seconds=0.01, longest_seconds=3.0, total_seconds=5.0)
MIRROR = Collections.DIRECTORY_MIRROR


class Taken:
    """What a reading handed over. `on_progress` is called with each word of progress."""

    def __init__(self, on_progress: Callable[[], None] = lambda: None) -> None:
        self.entries: dict[str, Entry] = {}
        self.members: dict[str, set[str]] = {}
        self.told: list[tuple[str, int]] = []
        self.report: ReadReport | None = None
        self.on_progress = on_progress

    def put(self, entries: list[Entry]) -> None:
        self.entries |= {entry.id: entry for entry in entries}

    def put_members(self, group_id: str, refs: list[str]) -> None:
        self.members.setdefault(group_id, set()).update(refs)

    def restart_members(self, group_id: str) -> None:
        self.members.pop(group_id, None)

    def progress(self, *, phase: str, read: int, total: int | None = None) -> None:
        self.told.append((phase, read))
        self.on_progress()

    @property
    def here(self) -> list[str]:
        """The ids of those who are there."""
        return sorted(key for key, entry in self.entries.items() if entry.removed is None)


class EntraStory:
    """The customer, and what is read of the tenant."""

    def __init__(self, stored: Stored, settings: SyncSettings, fake: GraphFake) -> None:
        self.stored = stored
        self.mongo = stored.mongo
        self.settings = settings
        self.fake = fake
        self.customer_id = ""

    async def begin(self, domain: str = "example.test", **directory: Any) -> None:
        """Make the customer with a verified domain."""
        self.customer_id = (await self.stored.customer())["_id"]
        await self.stored.domain(domain, customer_id=self.customer_id, state="verified", next_check_at=None)
        fields: dict[str, Any] = {"provider": "entra", "entra": self.entra(), **directory}
        await self.stored.put(*directory_document(self.customer_id, **fields))

    def entra(self, place: str = "", **fields: Any) -> dict[str, Any]:
        """The tenant's settings, sealed for the customer's directory or another place."""
        place = place or f"directories/{self.customer_id}"
        known = {
            "tenant": TENANT, "client_id": CLIENT, "client_secret": SECRET, "client_certificate": None,
            "credential_expires_at": None, "cloud": "public", "user_filter": "", **fields,
        }  # fmt: skip
        for name in ("client_secret", "client_certificate"):
            if known[name] is not None:
                known[name] = BOX.seal(known[name], f"{place}/entra.{name}")
        return known

    async def directory(self) -> dict[str, Any]:
        """The directory's document."""
        [found] = await self.stored.all(Collections.DIRECTORIES, customer_id=self.customer_id)
        return found

    async def set(self, **fields: Any) -> None:
        """Change the directory's document."""
        await self.stored.set(Collections.DIRECTORIES, (await self.directory())["_id"], **fields)

    async def set_entra(self, **fields: Any) -> None:
        """Change the tenant's settings."""
        await self.set(entra=self.entra(**fields))

    async def read(self, *, keeps: bool = True, patience: Patience = QUICK, **taken: Any) -> Taken:
        """Read the tenant as a run does."""
        directory = cast(Any, await self.directory())
        mirror = Mirror(self.mongo, self.customer_id, "entra")
        source = make_entra_source(directory, BOX, self.settings, mirror, keeps=keeps, patience=patience)
        found = Taken(**taken)
        found.report = await source.read(found)
        return found

    async def mirror(self) -> dict[str, dict[str, Any]]:
        """The mirror's documents without the head."""
        found = await self.stored.all(MIRROR, customer_id=self.customer_id)
        return {document["external_id"]: document for document in found if document["external_id"]}

    async def age(self, **ages: timedelta) -> None:
        """Make the stored links older."""
        delta = (await self.directory())["delta"]
        await self.set(delta=delta | {name: delta[name] - age for name, age in ages.items()})

    async def ask(self, kind: str, query: dict[str, Any] | None = None, **entra: Any) -> dict[str, Any]:
        """Put a question as the API does."""
        settings = self.entra("directory_requests/req_1", **entra)
        question = {"_id": "req_1", "kind": kind, "provider": "entra", "settings": settings, "query": query or {}}
        return await answer_entra_question(cast(Any, question), BOX, self.settings)


@pytest.fixture(scope="module")
def graph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GraphFake, Path]]:
    """The server of this module's tests."""
    with serving(tmp_path_factory.mktemp("graph")) as server:
        yield server


@pytest.fixture
def graph(graph_server: tuple[GraphFake, Path]) -> GraphFake:
    """An empty tenant."""
    fake, _ = graph_server
    fake.__init__(url=fake.url, lock=fake.lock)  # type: ignore[misc]
    return fake


def entra_settings(uri: str, database: str, server: tuple[GraphFake, Path], **fields: Any) -> SyncSettings:
    """Settings that lead to the fake."""
    fake, ca_file = server
    return sync_settings(
        uri, database, sync_entra_authority_url=fake.url, sync_graph_url=fake.url, sync_ca_file=ca_file,
        sync_entra_instance_discovery=False, **fields,
    )  # fmt: skip


@pytest.fixture
async def entra(mongo_uri, database, graph_server, graph):
    """A customer with an empty tenant."""
    mongo = connect(mongo_uri, database)
    await mongo.ensure_indexes()
    story = EntraStory(Stored(mongo), entra_settings(mongo_uri, database, graph_server), graph)
    await story.begin()
    yield story
    mongo.close()
