"""Runs of directory synchronisation on a real database: what becomes of users, and of the run's record."""

import pytest

from tests.servers.stored import Stored, connect
from tests.servers.sync_source import ScriptedSource, SyncStory, people, sync_settings


@pytest.fixture
async def story(mongo_uri, database):
    mongo = connect(mongo_uri, database)
    await mongo.ensure_indexes()
    made = SyncStory(Stored(mongo), sync_settings(mongo_uri, database), ScriptedSource())
    await made.begin()
    yield made
    mongo.close()


@pytest.mark.spec("S2", "S17")
async def test_the_first_run_adds_everybody_and_says_so(story):
    story.source.entries = people(3, story.domain)
    run = await story.sync()
    assert (run["state"], run["phase"], run["counts"]["added"]) == ("completed", "ended", 3)
    users = await story.users()
    assert sorted(users) == [f"u{number:06d}@{story.domain}" for number in range(3)]
    assert await story.in_step()
    events = await story.stored.events()
    assert [name for name, _ in events] == ["SyncStarted", "UserAdded", "UserAdded", "UserAdded", "SyncCompleted"]
