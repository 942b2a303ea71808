"""Directory synchronisation as a whole, with its broker: events in and out, questions, warnings, its end."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx2
import pytest
from pydantic import SecretStr

from postern_common.documents import Collections
from postern_common.events import SyncRequested
from postern_common.ids import new_id
from postern_local.ports import free_ports
from postern_sync.app import assemble
from postern_sync.questions.loop import Questions
from postern_sync.questions.store import QuestionStore
from postern_sync.runs.documents import new_run
from postern_sync.schedule.credentials import Credentials
from postern_sync.schedule.store import DirectoryStore
from postern_sync.source import SourceFailed
from tests.servers.publisher import publishing
from tests.servers.sync_source import DIRECTORIES, RUNS, people, story, sync_settings  # noqa: F401
from tests.servers.waiting import eventually_async

REQUESTS = Collections.DIRECTORY_REQUESTS


class Scripted:
    """The story's source, which also answers questions."""

    def __init__(self, source):
        self.source = source

    def __call__(self, directory, *, keeps):
        return self.source(directory, keeps=keeps)

    async def answer(self, question):
        return {"ok": True, "steps": [], "query": question["query"]}


@asynccontextmanager
async def serving(story, mongo_uri, database, vhost):
    port = free_ports(1)[0]
    settings = sync_settings(
        mongo_uri, database, AMQP_URL=SecretStr(vhost), ops_host="127.0.0.1", ops_port=port, sync_poll_seconds=0.2
    )
    runtime = assemble(settings, Scripted(story.source))
    task = asyncio.create_task(runtime.run())
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as ops:

            async def is_ready():
                try:
                    return (await ops.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await eventually_async(is_ready, timeout=20)
            yield ops
    finally:
        runtime.stop()
        assert await task == 0


@pytest.mark.spec("S2", "S8", "S17", "V3")
async def test_from_the_event_to_the_event(farm, story, mongo_uri, database, vhost):
    story.source.entries = people(3, story.domain)
    async with serving(story, mongo_uri, database, vhost) as ops, publishing(farm, vhost, story.mongo) as publisher:
        run_id = await story.ask()
        event = SyncRequested(customer_id=story.customer_id, run_id=run_id, requested_by="adm_1")
        await publisher.processed("directory-sync", await publisher.send(event, times=3))

        async def told():
            found = await story.stored.all(Collections.OUTBOX, name="SyncCompleted", state="sent")
            return [entry["envelope"]["data"] for entry in found]

        [data] = await eventually_async(told)
        assert (data["run_id"], data["read"], data["added"]) == (run_id, 3, 3)
        assert (story.source.reads, len(await story.users())) == (1, 3)

        due = story.mongo.clock.now() - timedelta(minutes=1)
        await story.stored.set(DIRECTORIES, (await story.directory())["_id"], next_run_at=due)

        async def ran_again():
            return len(await story.stored.all(RUNS, state="completed")) == 2

        await eventually_async(ran_again)
        metrics = (await ops.get("/metrics")).text
    assert 'postern_sync_runs_total{kind="sync",state="completed"}' in metrics
    for secret in (story.customer_id, story.domain):
        assert secret not in metrics


@pytest.mark.spec("S8")
async def test_two_requests_by_events_alone_make_one_run(farm, story, mongo_uri, database, vhost):
    go_on = asyncio.Event()
    story.source.entries, story.source.pause = people(1, story.domain), go_on.wait
    async with serving(story, mongo_uri, database, vhost), publishing(farm, vhost, story.mongo) as publisher:
        for run_id in ("run_a", "run_b"):
            event = SyncRequested(customer_id=story.customer_id, run_id=run_id, requested_by="adm_1")
            await publisher.processed("directory-sync", await publisher.send(event))
        second = await story.run("run_b")
        assert (second["state"], second["reason"]) == ("cancelled", "another run is under way")
        go_on.set()

        async def done():
            return (await story.run("run_a"))["state"] == "completed"

        await eventually_async(done)


@pytest.mark.spec("S8")
async def test_a_service_that_stops_gives_its_run_back(story, mongo_uri, database, vhost):
    story.source.entries, story.source.pause = people(5000, story.domain), lambda: asyncio.sleep(0.2)
    run = new_run(story.customer_id, "adm_1", story.mongo.clock.now())
    async with serving(story, mongo_uri, database, vhost):
        await story.stored.put(RUNS, run)
        await eventually_async(lambda: story.source.reads)
    found = await story.run(run["_id"])
    assert (found["state"], found["lease_owner"], found["attempts"]) == ("running", None, 0)


async def ask(story, kind="test", **fields):
    now = story.mongo.clock.now()
    question = {
        "_id": new_id("req"), "customer_id": story.customer_id, "kind": kind, "provider": "ldap",
        "settings": {"password": "sealed"}, "query": {"search": "ann"}, "state": "asked", "answer": None,
        "lease_owner": None, "lease_until": None, "created_at": now, "expires_at": now + timedelta(minutes=2),
    }  # fmt: skip
    return (await story.stored.put(REQUESTS, question | fields))["_id"]


def answering(story, probe, **options):
    return Questions(QuestionStore(story.mongo), probe, **options)


async def fails(error):
    raise error


@pytest.mark.spec("L1")
async def test_a_question_is_answered_once_and_its_secrets_are_forgotten(story):
    asked = []

    async def probe(question):
        asked.append(question["query"])
        return {"ok": True, "steps": []}

    question_id = await ask(story)
    workers = [answering(story, probe) for _ in range(3)]
    assert sum(await asyncio.gather(*(worker.take() for worker in workers))) == 1
    await asyncio.gather(*(worker.idle() for worker in workers))
    found = await story.stored.get(REQUESTS, question_id)
    assert (found["state"], found["answer"], found["settings"]) == ("answered", {"ok": True, "steps": []}, {})
    assert asked == [{"search": "ann"}]


@pytest.mark.spec("L1")
@pytest.mark.parametrize("kind", ["test", "browse"])
@pytest.mark.parametrize(
    "failure, step, words",
    [
        (SourceFailed("bind", "the directory refused the password"), "bind", "refused the password"),
        (RuntimeError("10.1.2.3 inner secret"), "internal", "on our side"),
        (None, "connect", "did not answer within 0.2 seconds"),
    ],
)
async def test_whatever_goes_wrong_becomes_an_answer_in_public_words(story, kind, failure, step, words):
    async def probe(_question):
        await (asyncio.sleep(5) if failure is None else fails(failure))

    question_id = await ask(story, kind)
    worker = answering(story, probe, seconds=0.2)
    await worker.take()
    await worker.idle()
    answer = (await story.stored.get(REQUESTS, question_id))["answer"]
    assert (answer["ok"], answer["steps"][0]["step"], answer["entries"]) == (False, step, [])
    assert words in answer["steps"][0]["detail"]
    assert "10.1.2.3" not in json.dumps(answer)


@pytest.mark.spec("L1", "S12")
@pytest.mark.parametrize("entry", ["x" * 17 * 1024 * 1024, "half a pair: \ud83d"], ids=["too large", "no text"])
async def test_an_answer_that_cannot_be_stored_becomes_one_that_says_so(story, entry):
    """Nobody waits for the end of the time that an answer may take."""

    async def probe(_question):
        return {"ok": True, "entries": [entry], "truncated": False}

    question_id = await ask(story, "browse")
    worker = answering(story, probe)
    await worker.take()
    await worker.idle()
    found = await story.stored.get(REQUESTS, question_id)
    assert (found["state"], found["answer"]["ok"], found["settings"]) == ("answered", False, {})
    assert found["answer"]["steps"][-1]["detail"] == "The answer cannot be shown; ask for less."


@pytest.mark.spec("L1")
async def test_a_question_of_a_dead_worker_is_answered_by_another_and_an_old_one_by_nobody(story):
    async def probe(_question):
        return {"ok": True}

    past = story.mongo.clock.now() - timedelta(seconds=1)
    dead = await ask(story, state="running", lease_owner="gone", lease_until=past)
    old = await ask(story, expires_at=past)
    worker = answering(story, probe)
    assert await worker.take() == 1
    await worker.idle()
    assert (await story.stored.get(REQUESTS, dead))["state"] == "answered"
    left = await story.stored.all(REQUESTS, _id=old)
    assert [question["state"] for question in left] in ([], ["asked"])


@pytest.mark.spec("E3")
async def test_administrators_are_warned_30_and_7_and_1_days_before_a_credential_ends_once_each(story):
    now = story.mongo.clock.now()
    directory = await story.directory()

    async def look(days):
        entra = {"credential_expires_at": now + timedelta(days=days), "client_certificate": None}
        await story.stored.set(DIRECTORIES, directory["_id"], provider="entra", entra=entra)
        looking = [Credentials(DirectoryStore(story.mongo)) for _ in range(2)]
        return sum(await asyncio.gather(*(each.look() for each in looking)))

    warned = [await look(days) for days in (31, 29, 28, 6.5, 6, 0.9, 0.5, 365, 20)]
    assert warned == [0, 1, 0, 1, 0, 1, 0, 0, 1]
    assert len(await story.stored.events("CredentialExpiring")) == 4
