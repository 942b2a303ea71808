"""Agent, API and directory-sync together: a directory behind a firewall becomes users, by what changed alone."""

import asyncio
import contextlib
import json
import re
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from postern_common.directory_documents import DeltaDocument
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from postern_common.secrets import SecretBox
from postern_sync.agent.adapters.server import Revoked
from postern_sync.agent.config import LdapConfig, write_secret
from postern_sync.agent.directory import Directory
from postern_sync.agent_rounds.source import NOBODY
from postern_sync.mirror.overlay import Overlay
from postern_sync.mirror.store import Mirror, Mirrored
from postern_sync.source import SourceFailed
from postern_sync.sources import Sources
from tests.servers.agent import Scripted, beside, enrolled
from tests.servers.api import KEYS, api, place, prepared  # noqa: F401 - fixtures
from tests.servers.slapd import BASE, PASSWORD, PEOPLE, READER, Slapd, group, person, running
from tests.servers.stored import Stored
from tests.servers.sync_source import (
    DIRECTORIES,
    RUNS,
    SyncStory,
    Worker,
    directory_document,
    entry,
    people,
    sync_settings,
)
from tests.servers.waiting import eventually_async

DOMAIN = "demo.test"
PAGE = Path(__file__).resolve().parents[2] / "docs/agent.md"


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


@pytest.mark.spec("L4", "S16", "S7")
async def test_first_all_is_sent_then_only_what_changed(behind, agent, directory):
    run = await behind.sync_with(agent)
    assert (run["state"], run["counts"]["added"], run["reason"]) == ("completed", 41, None)
    users = await behind.users()
    members = await behind.stored.all(Collections.MEMBERSHIPS, customer_id=behind.customer_id)
    assert {row["member_id"] for row in members} == {users[f"u00000{n}@{DOMAIN}"]["_id"] for n in (1, 2)}
    full = sum(map(len, (body for method, _, body in agent.wire.sent if method == "PUT")))
    agent.wire.forget()
    directory.entries[3] = entry("000003", f"u000003@{DOMAIN}", f"three@{DOMAIN}")
    directory.members["id-staff"] = ["id-000001", "id-000003"]
    del directory.entries[7]
    run = await behind.sync_with(agent)
    assert (run["state"], run["counts"]["updated"], run["counts"]["flagged"]) == ("completed", 1, 1)
    [page] = agent.wire.pages
    assert [found["id"] for found in page["entries"]] == ["id-000003"]
    assert page["removed"] == ["id-000007"]
    assert page["members"] == [{"group_id": "id-staff", "added": ["id-000003"], "removed": ["id-000002"]}]
    assert sum(map(len, (body for method, _, body in agent.wire.sent if method == "PUT"))) < full / 3
    agent.wire.forget()
    run = await behind.sync_with(agent)
    assert (run["state"], agent.wire.pages, await behind.items(run["_id"])) == ("completed", [], [])
    assert await behind.staged() == [0, 0]


def everybody(story_users):
    return {email: (user["state"], user["version"]) for email, user in story_users.items()}


@pytest.mark.spec("L4")
async def test_a_cut_connection_goes_on_with_the_missing_page(behind, agent, directory, monkeypatch):
    monkeypatch.setattr("postern_sync.agent.state.PAGE_RECORDS", 5)
    cuts = {"/pages/3": "before", "/pages/5": "after", "/finish": "after"}

    def cut(_method, path):
        for end, where in list(cuts.items()):
            if path.endswith(end):
                return cuts.pop(end) and where
        return None

    agent.wire.cut = cut
    run = await behind.sync_with(agent)
    assert (run["state"], run["counts"]["added"], cuts) == ("completed", 41, {})
    numbers = [int(path.rsplit("/", 1)[1]) for method, path, _ in agent.wire.sent if method == "PUT"]
    assert numbers == list(range(len(numbers)))
    assert (len(numbers) > 8, directory.reads) == (True, 1)


@pytest.mark.spec("L4")
async def test_a_round_that_was_taken_is_gone_on_from_though_the_answer_was_lost(behind, agent, directory):
    agent.wire.cut = lambda _method, path: "after" if path.endswith("/finish") else None
    assert (await behind.sync_with(agent))["state"] == "completed"
    agent.wire.cut = lambda _method, _path: None
    agent.wire.forget()
    del directory.entries[7]
    run = await behind.sync_with(agent)
    assert (run["state"], run["counts"]["flagged"]) == ("completed", 1)
    assert [(page["entries"], page["removed"]) for page in agent.wire.pages] == [([], ["id-000007"])]


@pytest.mark.spec("L4", "S16")
async def test_an_agent_that_was_killed_goes_on_where_it_was_and_a_cut_round_changes_nothing(
    behind, directory, tmp_path, monkeypatch
):
    monkeypatch.setattr("postern_sync.agent.state.PAGE_RECORDS", 5)
    _, token = await enrolled(behind.api, behind.path)
    async with beside(behind.api, behind.path, tmp_path / "agent", directory, token) as agent:
        agent.wire.cut = lambda _method, path: "before" if path.endswith("/pages/4") else None
        run_id = await behind.ask()
        async with working(behind.worker().work()) as run:
            async with working(behind.reading(agent)):
                await eventually_async(behind.has_four_pages)
            assert (await behind.users(), await behind.mirrored()) == ({}, set())
            async with beside(behind.api, behind.path, tmp_path / "agent", directory, token) as again:
                await again.once()
                sent = again.wire.pages
                await run
    assert (await behind.run(run_id))["state"] == "completed"
    assert (len(await behind.users()), directory.reads) == (41, 1)
    assert all(found["id"] != "id-000000" for page in sent for found in page["entries"])


@pytest.mark.spec("L4", "S16")
@pytest.mark.parametrize("lost", ["mirror", "part of the mirror", "agent's state"])
async def test_whoever_forgets_gets_everything_again_and_nobody_is_flagged(behind, directory, tmp_path, lost):
    _, token = await enrolled(behind.api, behind.path)
    async with beside(behind.api, behind.path, tmp_path / "one", directory, token) as agent:
        await behind.sync_with(agent)
    before, mirrored = everybody(await behind.users()), await behind.mirrored()
    rows = behind.mongo.collection(Collections.DIRECTORY_MIRROR, PLATFORM)
    if lost == "mirror":
        await rows.delete_many({})
    elif lost == "part of the mirror":
        await rows.delete_many({"external_id": {"$regex": "^entry:id-00001"}})
    folder = tmp_path / ("two" if lost == "agent's state" else "one")
    async with beside(behind.api, behind.path, folder, directory, token) as agent:
        run = await behind.sync_with(agent)
        assert sum(len(page["entries"]) for page in agent.wire.pages) == 41
    assert (run["state"], run["counts"]["flagged"]) == ("completed", 0), run["reason"]
    assert (everybody(await behind.users()), await behind.mirrored()) == (before, mirrored)


@pytest.mark.spec("L4", "S16")
async def test_a_digest_that_does_not_fit_is_asked_for_again_and_flags_nobody(behind, agent, directory):
    await behind.sync_with(agent)
    before, mirrored = everybody(await behind.users()), await behind.mirrored()
    del directory.entries[5:30]

    def lie(path, body):
        return body | {"digest": "0" * 64} if path.endswith("/finish") else body

    agent.wire.change = lie
    agent.wire.forget()
    run = await behind.sync_with(agent)
    assert (run["state"], run["reason"].partition(":")[0]) == ("failed", "agent")
    assert (everybody(await behind.users()), await behind.mirrored()) == (before, mirrored)
    bases = [path for method, path, _ in agent.wire.sent if path.endswith("/finish")]
    assert len(bases) == 2  # the differences, then everything
    agent.wire.change = lambda path, body: body
    run = await behind.sync_with(agent)
    assert (run["state"], run["held"]) == ("held", {"flag": 25})


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


@pytest.mark.spec("L4", "S16")
async def test_a_preview_leaves_the_mirror_and_costs_no_full_round(behind, agent, directory):
    await behind.sync_with(agent)
    before = await behind.mirrored()
    del directory.entries[3]
    run = await behind.sync_with(agent, "preview")
    assert (run["state"], run["counts"]["flagged"]) == ("completed", 1)
    assert await behind.mirrored() == before
    agent.wire.forget()
    run = await behind.sync_with(agent)
    assert (run["state"], run["counts"]["flagged"]) == ("completed", 1)
    assert [page["removed"] for page in agent.wire.pages] == [["id-000003"]]
    assert not agent.wire.pages[0]["entries"]


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


@pytest.mark.spec("L4")
async def test_entries_with_thousands_of_addresses_are_taken_a_few_at_a_time(behind):
    mirror = Mirror(behind.mongo, behind.customer_id, "agent")
    overlay = Overlay(mirror, None)
    aliases = [f"an.address.that.is.long.{number}@{DOMAIN}" for number in range(3000)]
    await overlay.put([Mirrored(f"entry:{number:03d}", {"aliases": aliases}) for number in range(40)])
    laid_over = [len(batch) async for batch in overlay.stream()]
    at = behind.api.mongo.clock.now()
    delta = DeltaDocument(users_link="rnd_1", groups_link=None, at=at, full_round_at=at, scope_hash="agent")
    await overlay.store("rnd_1", delta, lambda: None)
    stored = [len(batch) async for batch in mirror.stream()]
    overlay.close()
    for sizes in (laid_over, stored):
        assert (sum(sizes), max(sizes) < 40) == (40, True)


@pytest.mark.spec("L4")
async def test_odd_names_keep_nobody_else_from_being_read(behind, agent, directory):
    odd = ["nul\0l", "x" * 5000, "x" * 5001]
    directory.entries += [
        entry(f"9{n}", f"odd{n}@{DOMAIN}", id=f"{name}:1", name=name, refs=(name,)) for n, name in enumerate(odd)
    ]
    directory.members = {"id-staff": odd, "nul\0l": ["id-000001"]}
    run = await behind.sync_with(agent)
    assert (run["state"], run["counts"]["added"], run["counts"]["members_added"]) == ("completed", 44, 3), run["reason"]


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


@pytest.mark.spec("L4")
async def test_what_an_agent_was_sending_when_it_was_revoked_is_sent_by_another(
    behind, directory, tmp_path, monkeypatch
):
    monkeypatch.setattr("postern_sync.agent.state.PAGE_RECORDS", 5)
    made, token = await enrolled(behind.api, behind.path)
    _, other = await enrolled(behind.api, behind.path, "there")
    run_id = await behind.ask()
    async with working(behind.worker().work()) as run:
        async with beside(behind.api, behind.path, tmp_path / "one", directory, token) as agent:
            agent.wire.cut = lambda _method, path: "before" if path.endswith("/pages/4") else None
            async with working(behind.reading(agent)):
                await eventually_async(behind.has_four_pages)
            await behind.api.delete(f"{behind.path}/directory/agents/{made['id']}", expect=204)
            with pytest.raises(Revoked):
                await agent.once()
        async with beside(behind.api, behind.path, tmp_path / "two", directory, other) as agent:
            await agent.once()
        await run
    assert ((await behind.run(run_id))["state"], len(await behind.users())) == ("completed", 41)


@pytest.mark.spec("L4")
async def test_a_worker_that_takes_a_run_over_uses_what_the_agent_has_sent(behind, agent, directory, place):
    run_id = await behind.ask()
    dying = Behind(behind.api, behind.path, place, sync_poll_seconds=30).worker()
    async with working(dying.work()):
        await eventually_async(agent.once)
        for task in list(dying.runner._tasks):
            task.cancel()
    an_hour_ago = behind.mongo.clock.now() - timedelta(hours=1)
    await behind.stored.set(RUNS, run_id, lease_until=an_hour_ago)
    await behind.worker().work()
    run = await behind.run(run_id)
    assert (run["state"], len(await behind.users()), directory.reads) == ("completed", 41, 1)


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


def names_in(body, prefix=""):
    """All names in a body, with where they stand."""
    if isinstance(body, dict):
        return {found for name, inner in body.items() for found in names_in(inner, f"{prefix}.{name}".lstrip("."))}
    if isinstance(body, list):
        return {found for inner in body for found in names_in(inner, f"{prefix}[]")} or {f"{prefix}[]"}
    return {prefix}


@pytest.mark.spec("L4", "S6")
async def test_nothing_leaves_but_what_the_page_lists(behind, tmp_path, farm):
    slapd = Slapd(tmp_path / "slapd", name="slapd-agent")
    slapd.load(
        [person(f"user{number}", info="a note", telephoneNumber="1", company="Acme") for number in range(5)]
        + [person("ann", proxyAddresses=["SMTP:ann@demo.test", "smtp:a@demo.test"], mail="no address")]
        + [group("sales", ["ann", "user0"])]
    )
    secret = tmp_path / "password"
    write_secret(secret, PASSWORD)
    (tmp_path / "ca.pem").write_text(slapd.certificates.pem())
    ldap = {
        "host": "localhost", "port": slapd.tls_port, "ca_file": tmp_path / "ca.pem", "user": READER,
        "password_file": secret,
    }  # fmt: skip
    with running(slapd, farm.processes):
        directory = Directory(LdapConfig.model_validate(ldap))
        async with beside(behind.api, behind.path, tmp_path / "agent", directory) as agent:
            document = await behind.directory()
            await behind.stored.set(DIRECTORIES, document["_id"], ldap=document["ldap"] | {"base_dn": BASE})
            run = await behind.sync_with(agent)
            assert (run["state"], run["counts"]["added"]) == ("completed", 7), run["reason"]
            with slapd.editing() as connection:
                assert connection.delete(f"uid=user4,{PEOPLE}")
            assert (await behind.sync_with(agent))["counts"]["flagged"] == 1
    finished = [json.loads(body) for _, path, body in agent.wire.sent if path.endswith("/finish")]
    left = {name for body in (*agent.wire.pages, *finished) for name in names_in(body)}
    left = {name for name in left if not any(other.startswith(name + ".") for other in left)}
    section = PAGE.read_text(encoding="utf-8").partition("## What leaves")[2].partition("\n## ")[0]
    assert left == set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    told = b"".join(json.dumps(body).encode() for body in agent.wire.pages)
    assert b"userPassword" not in told
    assert PASSWORD.encode() not in told
