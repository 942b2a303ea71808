"""From a real LDAP server through reader, rules and engine into the database; nothing of it is scripted."""

import base64
import secrets
from datetime import timedelta

import pytest

from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_common.secrets import SecretBox
from postern_sync.questions.loop import Questions
from postern_sync.questions.store import QuestionStore
from postern_sync.sources import Sources
from tests.servers.slapd import PASSWORD, PEOPLE, Slapd, group, person, running
from tests.servers.sync_source import DIRECTORIES, Worker, story, sync_settings  # noqa: F401

KEYS = "1:" + base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture(scope="module")
def slapd(farm, tmp_path_factory):
    part = Slapd(tmp_path_factory.mktemp("slapd"), name="slapd-sync")
    part.load([person(f"user{number:02d}") for number in range(40)])
    part.load([person("ann", proxyAddresses=["SMTP:a.lee@demo.test", "smtp:ann@demo.test"], mail="ann.lee@demo.test")])
    part.load([group("sales", ["ann", "user00"])])
    with running(part, farm.processes):
        yield part


@pytest.fixture
async def synced(story, slapd, mongo_uri, database):
    """The customer with that directory; `sync` reads it."""
    networks = "127.0.0.0/8,::1/128"
    settings = sync_settings(mongo_uri, database, secret_keys=KEYS, allow_networks=networks)
    story.box = SecretBox.from_text(KEYS)
    story.sources = Sources(settings, story.box, story.mongo)
    await story.stored.domain("demo.test", customer_id=story.customer_id, state="verified", next_check_at=None)
    story.worker = lambda **options: Worker(story.mongo, settings, story.sources, **options)
    await use(story, slapd, PASSWORD)
    return story


async def use(story, slapd, password, **fields):
    sealed = story.box.seal(password, f"directories/{story.customer_id}/ldap.password")
    ldap = slapd.settings(**fields) | {"password": sealed}
    await story.stored.set(DIRECTORIES, (await story.directory())["_id"], ldap=ldap)


@pytest.mark.spec("S2", "S7", "S18", "L2", "L3")
async def test_a_directory_becomes_users_and_a_second_run_finds_nothing_to_do(synced):
    run = await synced.sync()
    assert (run["state"], run["counts"]["added"], run["proof"]["is_complete"]) == ("completed", 42, True)
    users = await synced.users()
    ann = users["a.lee@demo.test"]
    assert sorted(alias["address"] for alias in ann["aliases"]) == ["ann.lee@demo.test", "ann@demo.test"]
    assert (users["sales@demo.test"]["kind"], ann["source"], ann["external_id_kind"]) == ("list", "ldap", "entryUUID")
    members = await synced.stored.all(Collections.MEMBERSHIPS, customer_id=synced.customer_id)
    assert {row["member_id"] for row in members} == {ann["_id"], users["user00@demo.test"]["_id"]}
    again = await synced.sync()
    assert (again["state"], again["counts"]["unchanged"]) == ("completed", 42)
    assert await synced.items(again["_id"]) == []


@pytest.mark.spec("S15", "S16")
async def test_who_is_deleted_in_the_directory_is_flagged_and_who_is_made_anew_comes_back(synced, slapd):
    await synced.sync()
    before = (await synced.users())["user07@demo.test"]
    with slapd.editing() as connection:
        assert connection.delete(f"uid=user07,{PEOPLE}")
    try:
        run = await synced.sync()
        assert (run["state"], run["counts"]["flagged"]) == ("completed", 1)
        assert (await synced.users())["user07@demo.test"]["state"] == "flagged"
    finally:
        slapd.add(person("user07"))
    run = await synced.sync()
    after = (await synced.users())["user07@demo.test"]
    assert (run["counts"]["unflagged"], after["state"], after["_id"]) == (1, "active", before["_id"])
    assert after["external_id"] != before["external_id"]


@pytest.mark.spec("S16", "L1")
@pytest.mark.parametrize(
    "password, fields, state, words",
    [
        ("wrong", {}, "failed", "bind"),
        (PASSWORD, {"base_dn": "dc=elsewhere"}, "failed", "base_dn"),
        (PASSWORD, {"user": "cn=blind,dc=demo,dc=test"}, "incomplete", ""),
        (PASSWORD, {"port": 9}, "failed", "connect"),
        (PASSWORD, {"connection": "agent"}, "failed", "agent: "),
    ],
)
async def test_a_directory_that_does_not_let_itself_be_read_leaves_the_same_users(
    synced, slapd, password, fields, state, words
):
    await synced.sync()
    before = await synced.users()
    await use(synced, slapd, password, **fields)
    run = await synced.sync()
    assert (run["state"], words in run["reason"]) == (state, True), run["reason"]
    assert await synced.users() == before


@pytest.mark.spec("L1", "S12")
@pytest.mark.parametrize("kind", ["test", "browse"])
async def test_a_question_is_put_to_the_directory(synced, slapd, kind):
    question_id, now = new_id("req"), synced.mongo.clock.now()
    sealed = synced.box.seal(PASSWORD, f"directory_requests/{question_id}/ldap.password")
    question = {
        "_id": question_id, "customer_id": synced.customer_id, "kind": kind, "provider": "ldap",
        "settings": slapd.settings() | {"password": sealed}, "state": "asked", "answer": None, "lease_owner": None,
        "query": {"search": "user03", "kind": "user", "limit": 5} if kind == "browse" else {}, "lease_until": None,
        "created_at": now, "expires_at": now + timedelta(minutes=2),
    }  # fmt: skip
    await synced.stored.put(Collections.DIRECTORY_REQUESTS, question)
    worker = Questions(QuestionStore(synced.mongo), synced.sources.answer)
    assert await worker.take() == 1
    await worker.idle()
    answer = (await synced.stored.get(Collections.DIRECTORY_REQUESTS, question_id))["answer"]
    if kind == "test":
        assert (answer["ok"], answer["found"]) == (True, {"users": 41, "groups": 1})
    else:
        assert [found["address"] for found in answer["entries"]] == ["user03@demo.test"]
    assert PASSWORD not in repr(answer)
