"""What is held, what a waiting plan means for others, and what an old plan may still do."""

from datetime import timedelta

import pytest

from postern_common import deletions
from postern_deletion.store import UserStore
from postern_deletion.sweep import Sweep
from postern_sync.applying import application
from tests.servers.sync_source import DIRECTORIES, USERS, people, story  # noqa: F401


@pytest.mark.spec("S16")
async def test_back_at_the_old_filter_those_whom_another_one_added_are_held(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    directory = await story.directory()
    await story.stored.set(DIRECTORIES, directory["_id"], ldap=directory["ldap"] | {"user_filter": "(mail=*)"})
    story.source.entries = people(39, story.domain, 1) + people(2, story.domain, 100)
    assert (await story.sync())["held"] == {"flag": 1}
    await story.stored.set(DIRECTORIES, directory["_id"], ldap=directory["ldap"])
    story.source.entries = people(40, story.domain)
    run = await story.sync()
    assert (run["state"], run["held"], run["proof"]["holds"]) == ("held", {"flag": 2}, ["filter"])
    approved = await story.sync("approval", approves=run["_id"], approved_hash=run["plan_hash"])
    assert (approved["state"], approved["counts"]["flagged"]) == ("completed", 2)
    assert (await story.directory())["asked_since"] == []


@pytest.mark.spec("S16", "X1")
async def test_a_plan_that_the_guard_holds_confirms_those_who_were_flagged_before_it(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(38, story.domain)
    await story.sync()
    story.source.entries = people(30, story.domain)
    run = await story.sync()
    [user] = [found for email, found in (await story.users()).items() if email.startswith("u000039")]
    directory = await story.directory()
    assert (run["state"], directory["last_good"]["run_id"] == run["_id"]) == ("held", False)
    later = directory["confirmed_at"] + timedelta(hours=11)
    assert deletions.pause(user, directory, later) is None
    assert deletions.pause(user, directory, later + timedelta(hours=2)) == "directory_unread"
    await story.stored.set(DIRECTORIES, directory["_id"], include_hidden=False, confirmed_at=None)
    assert (await story.sync())["proof"]["holds"] == ["filter", "guard"]
    assert (await story.directory())["confirmed_at"] is None, "another question confirms nobody"


@pytest.mark.spec("S16", "X1")
@pytest.mark.parametrize(("left", "state"), [(38, "completed"), (30, "held")])
async def test_a_run_confirms_nobody_where_the_settings_changed_while_it_read(story, left, state):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(38, story.domain)
    await story.sync()
    directory = await story.directory()

    async def change():
        await story.stored.set(DIRECTORIES, directory["_id"], updated_at=await story.mongo.server_time())

    story.source.entries, story.source.pause = people(left, story.domain), change
    assert (await story.sync())["state"] == state
    [user] = [found for email, found in (await story.users()).items() if email.startswith("u000039")]
    now = await story.mongo.server_time()
    assert deletions.pause(user, await story.directory(), now) == "awaiting_run"
    story.source.pause = None
    await story.sync()
    assert deletions.pause(user, await story.directory(), now) is None


@pytest.mark.spec("S16")
async def test_what_an_old_plan_takes_away_is_left_to_the_next_run(story, monkeypatch):
    story.source.entries = people(40, story.domain)
    await story.sync()
    good = (await story.directory())["last_good"]
    story.source.entries = people(38, story.domain) + people(1, story.domain, 100)
    with monkeypatch.context() as patched:
        patched.setattr(application, "OLD", timedelta(seconds=-1))
        run = await story.sync()
    assert (run["state"], run["counts"]["added"], run["counts"]["flagged"]) == ("incomplete", 1, 0)
    assert "interrupted" in run["reason"]
    assert (await story.directory())["last_good"] == good
    assert (await story.sync())["counts"]["flagged"] == 2


@pytest.mark.spec("S16")
async def test_a_plan_whose_approval_was_interrupted_for_too_long_is_not_called_approved(story, monkeypatch):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(30, story.domain)
    held = await story.sync()
    with monkeypatch.context() as patched:
        patched.setattr(application, "OLD", timedelta(seconds=-1))
        run = await story.sync("approval", approves=held["_id"], approved_hash=held["plan_hash"])
    assert (run["state"], run["counts"]["flagged"]) == ("incomplete", 0)
    assert (await story.run(held["_id"]))["state"] == "superseded"


@pytest.mark.spec("S15", "S16")
async def test_the_same_controller_that_was_believed_can_have_its_plan_approved(story):
    story.source.entries = people(40, story.domain)
    story.source.report = {"invocation_id": "dc1", "usn": 5}
    await story.sync()
    story.source.report = {"invocation_id": "dc2", "usn": 5}
    story.source.entries = people(30, story.domain)
    assert (await story.sync())["state"] == "incomplete"
    run = await story.sync()
    assert (run["state"], run["held"]) == ("held", {"flag": 10})
    approved = await story.sync("approval", approves=run["_id"], approved_hash=run["plan_hash"])
    assert (approved["state"], approved["counts"]["flagged"]) == ("completed", 10)


@pytest.mark.spec("S9", "S15", "X1")
async def test_case_11_who_is_gone_is_flagged_by_the_second_run_and_deleted_after_the_delay(story):
    directory = await story.directory()
    await story.stored.set(DIRECTORIES, directory["_id"], absent_runs=2)
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(39, story.domain)
    gone = f"u000039@{story.domain}"
    states = []
    for _ in range(2):
        await story.sync()
        states.append((await story.users())[gone]["state"])
    assert states == ["active", "flagged"]
    sweep = Sweep(UserStore(story.mongo))
    assert await sweep.sweep() == 0, "the delay has not passed"
    flagged = (await story.users())[gone]
    week = timedelta(days=7, minutes=1)
    earlier = {name: flagged[name] - week for name in ("flagged_at", "due_at")}
    await story.stored.set(USERS, flagged["_id"], **earlier)
    await story.sync()
    assert await sweep.sweep() == 1
    assert gone not in await story.users()
    assert [subject for name, subject in await story.stored.events("UserDeleted")] == [flagged["_id"]]
