"""The agent's loop: one reading at a time, questions beside it, a new token in time, patience with the server."""

import asyncio
import contextlib
import os
import sqlite3
import time
from datetime import UTC, datetime
from typing import cast

import httpx2
import pytest

from postern_sync.adapters.ldap.reader import LdapSource
from postern_sync.agent.adapters.server import Refused, Revoked, Server, Unreachable
from postern_sync.agent.config import AgentConfig, LdapConfig, read_secret, write_secret
from postern_sync.agent.directory import Directory
from postern_sync.agent.loop import Agent
from postern_sync.agent.rounds import Backoff, Rounds
from postern_sync.agent.state import State
from postern_sync.source import SourceFailed
from tests.servers.sync_source import entry
from tests.servers.waiting import eventually_async

SETTINGS = {"preset": "openldap", "base_dn": "dc=test"}
NOTHING = {"round": None, "question": None, "now": "2026-11-28T12:00:00Z"}


WHOLE = SETTINGS | {
    "user_filter": "", "group_filter": "", "attributes": {}, "primary_from_upn": False, "page_size": 500,
    "include_hidden": True, "include_public_folders": False,
}  # fmt: skip


class FakeServer:
    """Answers from a script; `asked` is what the agent was busy with at each call."""

    def __init__(self, *works):
        self.works = list(works)
        self.asked, self.answers, self.failures, self.finished = [], [], [], []
        self.pages = 0
        self.page_error = None
        self.token = "pagt_old"
        self.renewals = 0

    async def work(self, busy, wait=25):
        self.asked.append(list(busy))
        if not self.works:
            await asyncio.sleep(3600)
        found = self.works.pop(0)
        if isinstance(found, Exception):
            raise found
        await asyncio.sleep(0)
        return found

    async def renew(self):
        self.renewals += 1
        return {"token": "pagt_new", "expires_at": "later", "agent_id": "agt_1"}

    async def begin(self, run_id, upload_id, known):
        return {"id": "rnd_1", "run_id": run_id, "base": None, "next_page": 0}

    async def put_page(self, round_id, number, upload_id, packed):
        if self.page_error is not None:
            raise self.page_error
        self.pages += 1

    async def finish(self, round_id, statement):
        self.finished.append(round_id)

    async def fail(self, round_id, step, message):
        self.failures.append((round_id, step, message))

    async def answer(self, question_id, answer):
        self.answers.append((question_id, answer))


class FakeDirectory:
    """Reads one entry as soon as it may."""

    def __init__(self):
        self.may, self.reads, self.failure = asyncio.Event(), 0, None
        self.may.set()

    async def read(self, settings, reading):
        self.reads += 1
        await self.may.wait()
        reading.put([entry("ann", "ann@demo.test")])
        return {"place": "", "report": {}}

    async def answer(self, kind, settings, query):
        if self.failure is not None:
            raise self.failure
        return {"ok": True}


@pytest.fixture
def state(tmp_path):
    found = State(tmp_path)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses are short, and remembered."""
    pauses = []
    plain = asyncio.sleep

    async def sleep(seconds, *result):
        pauses.append(seconds)
        await plain(min(seconds, 0.001) if seconds < 3600 else seconds)

    monkeypatch.setattr("postern_sync.agent.rounds.asyncio.sleep", sleep)
    return pauses


def agent_of(server, state, directory, tmp_path, **options):
    write_secret(tmp_path / "token", server.token)
    return Agent(server, state, directory, tmp_path / "token", **options)


@contextlib.asynccontextmanager
async def at_work(agent):
    task = asyncio.create_task(agent.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Revoked):
            await task


def wanted(run_id="run_1"):
    return NOTHING | {"round": {"run_id": run_id, "settings": SETTINGS}}


def question(question_id="req_1"):
    return NOTHING | {"question": {"id": question_id, "kind": "test", "settings": SETTINGS, "query": {}}}


@pytest.mark.spec("L4")
async def test_a_reading_under_way_is_told_and_questions_are_answered_beside_it(state, tmp_path):
    server, directory = FakeServer(wanted(), wanted(), question()), FakeDirectory()
    directory.may.clear()
    async with at_work(agent_of(server, state, directory, tmp_path)):
        await eventually_async(lambda: server.answers)
        await eventually_async(lambda: directory.reads)
        assert server.asked[1] == ["run_1"]
        assert (directory.reads, server.finished) == (1, [])
        directory.may.set()
        await eventually_async(lambda: server.finished)
    assert server.answers == [("req_1", {"ok": True})]


@pytest.mark.spec("L1", "L4")
async def test_a_question_that_fails_is_answered_with_the_step(state, tmp_path):
    server, directory = FakeServer(question()), FakeDirectory()
    directory.failure = SourceFailed("bind", "The password is wrong.")
    async with at_work(agent_of(server, state, directory, tmp_path)):
        await eventually_async(lambda: server.answers)
    [(_, answer)] = server.answers
    assert (answer["ok"], answer["steps"][0]["step"], answer["steps"][0]["detail"]) == (
        False, "bind", "The password is wrong.",
    )  # fmt: skip


@pytest.mark.spec("L4")
async def test_a_token_of_some_days_is_renewed_and_kept_before_it_is_used(state, tmp_path):
    server = FakeServer(NOTHING)
    agent = agent_of(server, state, FakeDirectory(), tmp_path, rotate_days=7)
    eight_days_ago = time.time() - 8 * 86_400
    os.utime(tmp_path / "token", (eight_days_ago, eight_days_ago))
    async with at_work(agent):
        await eventually_async(lambda: len(server.asked) == 2)
    assert (server.renewals, server.token, read_secret(tmp_path / "token")) == (1, "pagt_new", "pagt_new")


@pytest.mark.spec("L4")
async def test_a_server_that_is_away_is_asked_again_and_a_revoked_agent_ends(state, tmp_path, quick):
    away = [Unreachable("ConnectError"), Unreachable("status 503", 30.0), Unreachable("ConnectError")]
    server = FakeServer(*away, NOTHING, Revoked())
    with pytest.raises(Revoked):
        await agent_of(server, state, FakeDirectory(), tmp_path).run()
    assert len(server.asked) == 5
    assert (quick[0] < 2, quick[1] > 20, quick[2] > 2.9) == (True, True, True)


@pytest.mark.spec("L4")
async def test_a_page_that_the_server_will_never_take_ends_the_round_with_its_reason(state):
    server = FakeServer()
    server.page_error = Refused(413, "A page may have 8 octets at most.")
    assert await Rounds(cast(Server, server), state, FakeDirectory()).carry_out("run_1", SETTINGS) is False
    assert server.failures == [
        ("rnd_1", "agent", "The server refused what was sent: A page may have 8 octets at most.")
    ]


@pytest.mark.spec("L4")
@pytest.mark.parametrize("status", [404, 409])
async def test_a_round_that_is_over_is_left_without_a_word(state, status):
    server = FakeServer()
    server.page_error = Refused(status, "The round is not open any more.")
    assert await Rounds(cast(Server, server), state, FakeDirectory()).carry_out("run_1", SETTINGS) is False
    assert server.failures == []


@pytest.mark.spec("L4")
async def test_pauses_grow_to_a_bound_and_the_servers_word_comes_first(quick):
    backoff = Backoff(first=1.0, longest=4.0)
    for retry_after in (None, None, None, None, 60.0):
        await backoff.wait(retry_after)
    assert [round(pause) >= least for pause, least in zip(quick, (1, 1, 3, 3, 45), strict=True)] == [True] * 5
    assert max(quick[:4]) <= 5


@pytest.mark.spec("L4")
async def test_a_token_that_was_renewed_under_way_is_no_revocation(tmp_path):
    config = AgentConfig.model_validate({"url": "https://api.test", "state_dir": tmp_path, "ldap": {"host": "dc1"}})

    def answer(request):
        if request.headers["authorization"] == "Bearer pagt_old":
            server.token = "pagt_new"
            return httpx2.Response(401)
        return httpx2.Response(200, json=NOTHING)

    async with Server(config, "pagt_old", httpx2.MockTransport(answer)) as server:
        assert await server.work([]) == NOTHING


@pytest.mark.spec("L4")
@pytest.mark.parametrize(
    "asked",
    [
        {"attributes": {"notes": "unicodePwd"}}, {"attributes": {"mail": "mail", "company": "2.5.4.35"}},
        {"user_filter": "(sambaNTPassword=0*)"}, {"group_filter": "(|(cn=a)(:2.5.13.18:=x))"},
    ],
)  # fmt: skip
async def test_secrets_are_not_read_whoever_asks(state, asked):
    plain = WHOLE | {"preset": "ad", "user_filter": "(!(pwdLastSet=0))"}
    directory = Directory(LdapConfig(host="localhost", port=1))
    for settings, step in ((plain, "connect"), (plain | asked, "agent")):
        with pytest.raises(SourceFailed) as failed:
            await directory.read(settings, state)
        assert failed.value.step == step
    with pytest.raises(SourceFailed, match="secrets"):
        await directory.answer("browse", plain | asked, {"kind": "user", "search": "a", "limit": 1})


@pytest.mark.spec("L4")
async def test_work_that_cannot_be_begun_yet_is_not_asked_for_in_a_rush(state, tmp_path, quick, monkeypatch):
    server, directory = FakeServer(*[question(f"req_{n}") for n in range(9)], *[NOTHING] * 5), FakeDirectory()

    async def answer(kind, settings, query):
        await asyncio.Event().wait()

    monkeypatch.setattr(directory, "answer", answer)
    async with at_work(agent_of(server, state, directory, tmp_path)):
        await eventually_async(lambda: not server.works)
        assert len([pause for pause in quick if 3 <= pause <= 6]) >= 9
        assert server.asked[-1] == [f"req_{n}" for n in range(4)]


@pytest.mark.spec("L4")
async def test_a_reading_for_a_run_that_is_over_makes_room_for_the_next(state, tmp_path):
    server, directory = FakeServer(wanted(), *[NOTHING] * 5, *[wanted("run_2")] * 3), FakeDirectory()
    directory.may.clear()
    async with at_work(agent_of(server, state, directory, tmp_path)) as running:
        await eventually_async(lambda: directory.reads == 2)
        assert server.asked[-1] == ["run_2"]
        directory.may.set()
        await eventually_async(lambda: server.finished)
        assert not running.done()
    assert (server.finished, server.failures) == (["rnd_1"], [])


@pytest.mark.spec("L4")
async def test_an_answer_that_is_refused_is_not_given_again_and_again(state, tmp_path, monkeypatch):
    server = FakeServer(question(), NOTHING, NOTHING)

    given = []

    async def refuse(question_id, _answer):
        given.append(question_id)
        raise Refused(422, "no")

    monkeypatch.setattr(server, "answer", refuse)
    async with at_work(agent_of(server, state, FakeDirectory(), tmp_path)):
        await eventually_async(lambda: not server.works)
        await eventually_async(lambda: "req_1" in server.asked[-1])
    assert given == ["req_1"]


@pytest.mark.spec("L4")
@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT])
async def test_a_state_that_cannot_be_used_ends_the_run_with_that_reason(state, tmp_path, code, monkeypatch):
    state.note("base_round", "rnd_0")
    server, directory = FakeServer(wanted(), NOTHING), FakeDirectory()

    async def read(settings, reading):
        error = sqlite3.DatabaseError("the disk")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(directory, "read", read)
    async with at_work(agent_of(server, state, directory, tmp_path)):
        await eventually_async(lambda: server.failures)
    assert server.failures == [("rnd_1", "agent", "The agent cannot use its own state: the disk.")]
    assert server.finished == []
    state.put([entry("ann", "ann@demo.test")])


@pytest.mark.spec("L4")
async def test_a_token_is_renewed_though_the_clock_was_wrong_and_stays_where_no_other_can_be_kept(
    state, tmp_path, monkeypatch
):
    server = FakeServer(NOTHING, NOTHING)
    agent = agent_of(server, state, FakeDirectory(), tmp_path)
    os.utime(tmp_path / "token", (time.time() + 1e8, time.time() + 1e8))

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("postern_sync.agent.loop.write_secret", full)
    async with at_work(agent):
        await eventually_async(lambda: not server.works)
    assert (server.renewals, server.token, read_secret(tmp_path / "token")) == (1, "pagt_old", "pagt_old")


@pytest.mark.spec("L4", "S10")
async def test_accounts_expire_by_the_servers_clock(state, tmp_path, monkeypatch):
    server, directory = FakeServer(wanted()), FakeDirectory()
    asked = []
    plain = directory.read

    async def read(settings, reading):
        source = cast(LdapSource, Directory(LdapConfig(host="localhost")).source(WHOLE | settings))
        asked.append(source._mapping.now)
        return await plain(settings, reading)

    monkeypatch.setattr(directory, "read", read)
    async with at_work(agent_of(server, state, directory, tmp_path)):
        await eventually_async(lambda: server.finished)
    assert asked == [datetime(2026, 11, 28, 12, tzinfo=UTC)]


@pytest.mark.spec("L4")
async def test_a_fault_of_the_agents_own_ends_the_run_with_that_reason(state, tmp_path, monkeypatch):
    server, directory = FakeServer(wanted(), *[NOTHING] * 3), FakeDirectory()

    async def read(settings, reading):
        raise ZeroDivisionError

    monkeypatch.setattr(directory, "read", read)
    with pytest.raises(ZeroDivisionError):
        await agent_of(server, state, directory, tmp_path).run()
    assert [message for _round, _step, message in server.failures] == [
        "The agent has failed, with ZeroDivisionError; its log tells more."
    ]


@pytest.mark.spec("L4")
async def test_a_directory_that_hangs_does_not_hold_the_agent_up_for_ever(state, monkeypatch):
    monkeypatch.setattr("postern_sync.agent.directory.READ_SECONDS", 0.3)
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(60), "127.0.0.1", 0)
    async with silent, asyncio.timeout(5):
        directory = Directory(LdapConfig(host="127.0.0.1", port=silent.sockets[0].getsockname()[1], security="none"))
        with pytest.raises(SourceFailed):
            await directory.read(WHOLE, state)
