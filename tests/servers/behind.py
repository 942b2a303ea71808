"""A customer whose directory an agent reads: agent, API and directory-sync in one process."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

import pytest

from postern_common.documents import Collections
from postern_common.secrets import SecretBox
from postern_sync.sources import Sources
from tests.servers.agent import Scripted, beside
from tests.servers.api import KEYS, api, place, prepared  # noqa: F401 - fixtures
from tests.servers.stored import Stored
from tests.servers.sync_source import (
    SyncStory,
    Worker,
    directory_document,
    entry,
    people,
    sync_settings,
)

DOMAIN = "demo.test"


class Behind(SyncStory):
    """A customer of the API whose directory an agent reads; `sync` runs both sides."""

    def __init__(self, api, customer, place, **settings):
        made = sync_settings(*place, secret_keys=KEYS, **({"sync_poll_seconds": 0.03} | settings))
        super().__init__(Stored(api.mongo), made, Scripted())
        self.api, self.path = api, customer
        self.customer_id = customer.rsplit("/", 1)[-1]
        self.sources = Sources(made, SecretBox.from_text(KEYS), api.mongo)

    def worker(self, **options):
        return Worker(self.mongo, self.settings, self.sources, **options)

    async def reading(self, agent):
        while True:
            await agent.once()
            await asyncio.sleep(0.15)  # an agent that calls more often than 600 times a minute is slowed down

    async def sync_with(self, agent, kind="sync", **fields):
        """A run while the agent works."""
        async with working(self.reading(agent)):
            return await self.sync(kind, **fields)

    async def mirrored(self):
        found = await self.stored.all(Collections.DIRECTORY_MIRROR, customer_id=self.customer_id, source="agent")
        return {row["external_id"] for row in found if row["external_id"]}

    async def has_four_pages(self):
        return (await self.staged())[1] >= 4

    async def staged_round(self):
        return (await self.staged())[0] == 1

    async def staged(self):
        return [len(await self.stored.all(name)) for name in (Collections.AGENT_ROUNDS, Collections.AGENT_PAGES)]


@asynccontextmanager
async def working(work):
    """Something that goes on meanwhile; what it raises is raised."""
    task = asyncio.create_task(work)
    try:
        yield task
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def behind(api, place):
    customer = await api.customer()
    story = Behind(api, customer, place)
    name, document = directory_document(story.customer_id)
    document["ldap"]["connection"] = "agent"
    await story.stored.put(name, document)
    await api.verified(customer, DOMAIN)
    return story


@pytest.fixture
def directory():
    found = Scripted(people(40, DOMAIN))
    found.entries.append(entry("staff", f"staff@{DOMAIN}", kind="list"))
    found.members = {"id-staff": ["id-000001", "id-000002"]}
    return found


@pytest.fixture
async def agent(behind, directory, tmp_path):
    async with beside(behind.api, behind.path, tmp_path / "agent", directory) as found:
        yield found


def everybody(story_users):
    return {email: (user["state"], user["version"]) for email, user in story_users.items()}
