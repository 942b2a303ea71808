"""Agent, API and directory-sync together: a directory behind a firewall becomes users, by what changed alone."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from postern_common.directory_documents import DeltaDocument
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from postern_sync.agent.adapters.server import Revoked
from postern_sync.agent.config import LdapConfig, write_secret
from postern_sync.agent.directory import Directory
from postern_sync.mirror.overlay import Overlay
from postern_sync.mirror.store import Mirror, Mirrored
from tests.servers.agent import beside, enrolled
from tests.servers.api import KEYS, api, place, prepared  # noqa: F401 - fixtures
from tests.servers.behind import DOMAIN, Behind, agent, behind, directory, everybody, working  # noqa: F401 - fixtures
from tests.servers.slapd import BASE, PASSWORD, PEOPLE, READER, Slapd, group, person, running
from tests.servers.sync_source import (
    DIRECTORIES,
    RUNS,
    entry,
)
from tests.servers.waiting import eventually_async

PAGE = Path(__file__).resolve().parents[2] / "docs/agent.md"


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
