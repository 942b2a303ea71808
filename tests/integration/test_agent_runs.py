"""Runs of a directory that an agent reads: proof, guard, approval and cancelling are those of every directory."""

import asyncio

import pytest

from postern_common.documents import Collections
from postern_sync.agent_rounds.source import NOBODY
from postern_sync.source import SourceFailed
from tests.servers.api import KEYS, api, place, prepared  # noqa: F401 - fixtures
from tests.servers.behind import DOMAIN, Behind, agent, behind, directory, everybody, working  # noqa: F401 - fixtures
from tests.servers.sync_source import (
    RUNS,
    entry,
)
from tests.servers.waiting import eventually_async


@pytest.mark.spec("L4", "S16")
@pytest.mark.parametrize(
    "report, state, words",
    [
        ({"problems": ("size_limit: entries are missing",)}, "incomplete", "size_limit"),
        ({"base_readable": False}, "incomplete", "base_dn"),
        ({"attribute_errors": 3}, "incomplete", "attributes"),
    ],
)
async def test_a_reading_that_is_not_whole_flags_nobody(behind, agent, directory, report, state, words):
    await behind.sync_with(agent)
    directory.report = report
    kept, directory.entries = directory.entries, directory.entries[:10]
    run = await behind.sync_with(agent)
    assert (run["state"], words in run["reason"], run["counts"]["flagged"]) == (state, True, 0)
    assert len(await behind.users(state="active")) == 41
    directory.report, directory.entries = {}, kept
    run = await behind.sync_with(agent)
    assert (run["state"], run["counts"]["flagged"]) == ("completed", 0)


@pytest.mark.spec("L4", "L1")
async def test_a_directory_that_cannot_be_read_ends_the_run_with_the_agents_reason(behind, agent, directory):
    await behind.sync_with(agent)
    before = everybody(await behind.users())
    directory.failure = SourceFailed("bind", "The user name or the password is wrong.")
    run = await behind.sync_with(agent)
    assert (run["state"], run["reason"]) == ("failed", "bind: The user name or the password is wrong.")
    assert everybody(await behind.users()) == before


@pytest.mark.spec("L4", "S16")
async def test_another_base_dn_of_the_agents_own_holds_all_flags(behind, agent, directory):
    directory.place = "a" * 32
    await behind.sync_with(agent)
    directory.place = "b" * 32
    del directory.entries[0]
    run = await behind.sync_with(agent)
    assert (run["state"], run["held"], run["proof"]["holds"]) == ("held", {"flag": 1}, ["filter"])
    assert run["reason"].endswith(": what the agent reads by its own settings")


@pytest.mark.spec("L4", "S16")
async def test_an_empty_directory_flags_nobody_by_itself(behind, agent, directory):
    await behind.sync_with(agent)
    directory.entries, directory.members = [], {}
    run = await behind.sync_with(agent)
    assert run["state"] == "incomplete", run
    assert len(await behind.users(state="active")) == 41


@pytest.mark.spec("L4", "S16")
async def test_an_approval_reads_by_the_agent_again_and_counts_only_while_nothing_moved(behind, agent, directory):
    await behind.sync_with(agent)
    gone = directory.entries[5:30]
    del directory.entries[5:30]
    held = await behind.sync_with(agent)
    approval = {"approves": held["_id"], "approved_hash": held["plan_hash"]}
    directory.entries.append(gone[0])
    run = await behind.sync_with(agent, "approval", **approval)
    assert (run["state"], len(await behind.users(state="active"))) == ("failed", 41)
    directory.entries.pop()
    held = await behind.sync_with(agent)
    approval = {"approves": held["_id"], "approved_hash": held["plan_hash"]}
    reads = directory.reads
    run = await behind.sync_with(agent, "approval", **approval)
    assert (run["state"], run["counts"]["flagged"], directory.reads) == ("completed", 25, reads + 1)


@pytest.mark.spec("L4", "S17")
async def test_a_run_that_is_cancelled_in_the_midst_changes_nothing_and_the_next_one_reads_anew(
    behind, agent, directory
):
    await behind.sync_with(agent)
    before, mirrored = everybody(await behind.users()), await behind.mirrored()
    del directory.entries[7]
    may = asyncio.Event()
    directory.pause = may.wait
    async with working(behind.reading(agent)):
        run_id = await behind.ask()
        async with working(behind.worker().work()) as run:
            await eventually_async(lambda: directory.reads == 2)
            await behind.stored.set(RUNS, run_id, cancel_requested=True)
            await run
        assert (await behind.run(run_id))["state"] == "cancelled"
        assert (everybody(await behind.users()), await behind.mirrored()) == (before, mirrored)
        directory.entries.insert(0, entry("new", f"new@{DOMAIN}"))
        may.set()
        last = await behind.sync()
    assert (last["state"], last["counts"]["flagged"], last["counts"]["added"]) == ("completed", 1, 1)


@pytest.mark.spec("L4", "S17")
@pytest.mark.parametrize("kind", ["sync", "preview"])
async def test_nothing_is_asked_for_once_a_run_is_called_off(behind, agent, directory, kind):
    run_id = await behind.ask(kind)
    async with working(behind.worker().work()) as run:
        await eventually_async(behind.staged_round)
        await behind.stored.set(RUNS, run_id, cancel_requested=True)
        await run
    assert (await behind.run(run_id))["state"] == "cancelled"
    assert (await agent.once(), directory.reads) == (False, 0)


@pytest.mark.spec("L4", "S17")
async def test_pages_of_a_run_that_is_called_off_are_forgotten_and_no_more_are_taken(behind, agent, directory):
    sent = agent.server.put_page

    async def cancel(*page):
        await sent(*page)
        await behind.stored.set(RUNS, run_id, cancel_requested=True)
        await run
        assert await behind.staged() == [0, 0]
        await sent(*page)

    agent.server.put_page = cancel
    run_id = await behind.ask()
    async with working(behind.worker().work()) as run:
        await eventually_async(behind.staged_round)
        assert await agent.once() is False
    assert (await behind.run(run_id))["state"] == "cancelled"
    assert (await behind.staged(), await behind.users()) == ([0, 0], {})


@pytest.mark.spec("L4")
async def test_an_agent_that_says_nothing_ends_the_run_and_changes_nothing(behind, agent, place):
    await behind.sync_with(agent)
    before = everybody(await behind.users())
    impatient = Behind(behind.api, behind.path, place, sync_agent_silent_seconds=1)
    run = await impatient.sync()
    assert (run["state"], run["reason"].partition(":")[0]) == ("failed", "agent")
    assert everybody(await behind.users()) == before
    assert await behind.staged() == [0, 0]


@pytest.mark.spec("L4")
async def test_a_directory_without_an_agent_fails_at_once(behind):
    run = await behind.sync()
    assert (run["state"], run["reason"]) == ("failed", "agent: " + NOBODY)


@pytest.mark.spec("L1", "S12", "L4")
async def test_a_question_goes_to_the_agent_and_its_answer_comes_back(behind, agent):
    asked = {
        "_id": "req_1", "customer_id": behind.customer_id, "kind": "test", "provider": "ldap", "query": {},
        "settings": (await behind.directory())["ldap"] | {"password": "sealed"},
    }  # fmt: skip
    step = {"step": "bind", "ok": True, "detail": "Signed in.", "milliseconds": 3}

    async def answer():
        question = await eventually_async(agent.asked)
        assert not {"password", "user", "host"} & set(question["settings"])
        await agent.server.answer(question["id"], {"ok": True, "steps": [step], "found": {"users": 3, "groups": 1}})

    async with working(answer()):
        found = await behind.sources.answer(asked)
    assert (found["ok"], found["steps"], found["found"]) == (True, [step], {"users": 3, "groups": 1})
    assert await behind.stored.all(Collections.AGENT_QUESTIONS) == []
