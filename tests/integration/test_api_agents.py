"""Agents: added, enrolled once, given new tokens, revoked; and what theirs does not open."""

import asyncio
import gzip
import json
import threading
import tracemalloc
import zlib
from datetime import timedelta

import pytest

from postern_api.agents.rounds.schemas import SentPage
from postern_api.settings import MEBIBYTE
from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM
from tests.servers.agent import enrolled
from tests.servers.api import api, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.stored import Stored

UPLOAD = "0" * 31 + "1"
SETTINGS = {
    "preset": "openldap", "base_dn": "dc=demo", "user_filter": "", "group_filter": "", "attributes": {},
    "primary_from_upn": False, "page_size": 500, "include_hidden": True, "include_public_folders": False,
}  # fmt: skip
REPORT = {
    "base_readable": True, "problems": [], "referrals": 0, "attribute_errors": 0, "invocation_id": None, "usn": None,
}  # fmt: skip
STATEMENT = {"upload_id": UPLOAD, "pages": 0, "records": 0, "digest": "0" * 64, "place": "", "report": REPORT}
ENTRY = {
    "id": "x", "id_kind": "entryUUID", "immutable_id": None, "name": "cn=x", "kind": "user", "is_disabled": False,
    "primary": "x@demo.test", "aliases": [], "fields": {"first_name": "X"}, "refs": ["cn=x"], "faults": [],
    "excluded": None, "removed": None,
}  # fmt: skip


async def put_round(api, customer, **fields):
    """A round as directory-sync asks for it."""
    now = api.mongo.clock.now()
    later = now.replace(year=now.year + 1)
    document = {
        "_id": new_id("rnd"), "customer_id": customer.rsplit("/", 1)[-1], "run_id": new_id("run"), "state": "asked",
        "base": None, "settings": SETTINGS, "agent_id": None, "upload_id": None, "is_full": None, "pages": 0,
        "octets": 0, "entries": 0, "statement": None, "failure": None, "asked_at": now, "moved_at": now,
        "wanted_until": later, "delete_at": later,
    }  # fmt: skip
    return await Stored(api.mongo).put(Collections.AGENT_ROUNDS, document | fields)


async def begun(api, customer, token, **fields):
    """A round that the agent of the token has begun; its id."""
    found = await put_round(api, customer, **fields)
    body = {"run_id": found["run_id"], "upload_id": UPLOAD, "known": []}
    made = (await api.post("/v1/agent/rounds", body, token=token, expect=200)).json()
    assert (made["id"], made["base"], made["next_page"]) == (found["_id"], None, 0)
    return found["_id"]


async def put_page(api, token, round_id, number, page, *, packed=None, expect=204, upload=UPLOAD, encoding="gzip"):
    content = packed if packed is not None else gzip.compress(page)
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    path = f"/v1/agent/rounds/{round_id}/pages/{number}?upload_id={upload}"
    return await api.call("PUT", path, content=content, token=token, headers=headers, expect=expect)


@pytest.mark.spec("L4", "T4")
async def test_a_code_is_shown_once_and_works_once_within_an_hour(api):
    customer = await api.customer()
    made = (await api.post(f"{customer}/directory/agents", {"name": "here"}, expect=201)).json()
    assert made["state"] == "waiting"
    path = f"{customer}/directory/agents/{made['id']}"
    shown = await api.get(path, expect=200)
    assert made["code"] not in shown.text
    assert made["code"] not in repr(await api.all("agents"))
    enrolment = {"code": made["code"], "version": "0.1.0"}
    token = (await api.post("/v1/agent/enrol", enrolment, token=None, expect=200)).json()["token"]
    assert token not in repr(await api.all("agents"))
    await api.post("/v1/agent/enrol", enrolment, token=None, expect=401)
    shown = (await api.get(path, expect=200)).json()
    assert (shown["state"], shown["version"]) == ("enrolled", "0.1.0")
    assert (await api.get("/v1/agent/work?wait=0", token=token, expect=200)).json()["round"] is None
    late = (await api.post(f"{customer}/directory/agents", {"name": "late"}, expect=201)).json()
    with api.later(minutes=61):
        await api.post("/v1/agent/enrol", {"code": late["code"], "version": "1"}, token=None, expect=401)
        assert (await api.get(f"{customer}/directory/agents/{late['id']}")).json()["state"] == "expired"
    assert [event["data"]["resource"] for event in await api.events("SettingsChanged")][-1] == "directory-agent"


@pytest.mark.spec("L4")
async def test_the_old_token_is_good_until_the_new_one_was_used(api):
    _, first = await enrolled(api, await api.customer())
    lost = (await api.post("/v1/agent/token", token=first, expect=200)).json()["token"]
    second = (await api.post("/v1/agent/token", token=first, expect=200)).json()["token"]
    await api.get("/v1/agent/work?wait=0", token=lost, expect=401)
    await api.get("/v1/agent/work?wait=0", token=first, expect=200)
    await api.get("/v1/agent/work?wait=0", token=second, expect=200)
    await api.get("/v1/agent/work?wait=0", token=first, expect=401)
    with api.later(days=91):
        await api.get("/v1/agent/work?wait=0", token=second, expect=401)


@pytest.mark.spec("L4")
async def test_a_revoked_agent_is_refused_at_once_and_a_removed_customers_too(api):
    customer = await api.customer()
    made, token = await enrolled(api, customer)
    _, other = await enrolled(api, customer, "other")
    await api.call("DELETE", f"{customer}/directory/agents/{made['id']}", expect=428)
    await api.delete(f"{customer}/directory/agents/{made['id']}", expect=204)
    await api.get("/v1/agent/work?wait=0", token=token, expect=401)
    await api.get("/v1/agent/work?wait=0", token=other, expect=200)
    await put_round(api, customer)
    await api.delete(customer, expect=204)
    await api.get("/v1/agent/work?wait=0", token=other, expect=401)
    assert await api.all("agents") == []


@pytest.mark.spec("T2", "L4")
async def test_an_agent_touches_no_other_customer_and_opens_no_other_door(api):
    one, two = await api.customer("One"), await api.customer("Two")
    _, token = await enrolled(api, one)
    _, foreign = await enrolled(api, two)
    wanted = await put_round(api, two)
    assert (await api.get("/v1/agent/work?wait=0", token=token)).json()["round"] is None
    body = {"run_id": wanted["run_id"], "upload_id": UPLOAD, "known": []}
    await api.post("/v1/agent/rounds", body, token=token, expect=404)
    round_id = (await api.post("/v1/agent/rounds", body, token=foreign, expect=200)).json()["id"]
    before = await api.all("agent_rounds")
    await put_page(api, token, round_id, 0, b"{}", expect=404)
    await api.post(f"/v1/agent/rounds/{round_id}/finish", STATEMENT, token=token, expect=404)
    failure = {"step": "bind", "message": "no"}
    await api.post(f"/v1/agent/rounds/{round_id}/failure", failure, token=token, expect=404)
    assert await api.all("agent_rounds") == before
    for path in (one, f"{one}/directory/agents", "/v1/me", "/v1/customers"):
        await api.get(path, token=token, expect=401)
    for other in ("the-platform-token-of-these-tests", await api.token_for(one)):
        await api.get("/v1/agent/work?wait=0", token=other, expect=401)


@pytest.mark.spec("T2", "L4")
async def test_a_question_of_another_customer_is_not_shown_and_cannot_be_answered(api):
    one, two = await api.customer("One"), await api.customer("Two")
    _, token = await enrolled(api, one)
    now = api.mongo.clock.now()
    question = {
        "_id": "req_1", "customer_id": two.rsplit("/", 1)[-1], "kind": "test", "settings": SETTINGS, "query": {},
        "state": "asked", "answer": None, "created_at": now, "expires_at": now.replace(year=now.year + 1),
    }  # fmt: skip
    await Stored(api.mongo).put(Collections.AGENT_QUESTIONS, question)
    assert (await api.get("/v1/agent/work?wait=0", token=token)).json()["question"] is None
    await api.post("/v1/agent/questions/req_1/answer", {"ok": True}, token=token, expect=404)


@pytest.mark.spec("L4")
async def test_pages_come_in_order_and_a_repeated_one_is_fine(api):
    customer = await api.customer()
    _, token = await enrolled(api, customer)
    round_id = await begun(api, customer, token)
    await put_page(api, token, round_id, 0, b'{"removed": ["a"]}')
    await put_page(api, token, round_id, 0, b'{"removed": ["a"]}')
    assert (await put_page(api, token, round_id, 0, b'{"removed": ["b"]}', expect=409)).json()["next_page"] == 1
    assert (await put_page(api, token, round_id, 2, b"{}", expect=409)).json()["next_page"] == 1
    await put_page(api, token, round_id, 1, b'{"removed": ["c"]}', encoding="identity", packed=b'{"removed": ["c"]}')
    await put_page(api, token, round_id, 2, b"{}", upload="f" * 32, expect=409)
    finish = f"/v1/agent/rounds/{round_id}/finish"
    assert (await api.post(finish, STATEMENT | {"pages": 3}, token=token, expect=409)).json()["next_page"] == 2
    for _ in range(2):
        await api.post(finish, STATEMENT | {"pages": 2}, token=token, expect=204)
    await put_page(api, token, round_id, 2, b"{}", expect=409)
    pages = sorted(await api.all("agent_pages"), key=lambda page: page["number"])
    assert [gzip.decompress(page["data"]) for page in pages] == [b'{"removed": ["a"]}', b'{"removed": ["c"]}']


@pytest.mark.spec("L4")
async def test_another_upload_begins_anew(api):
    customer = await api.customer()
    _, token = await enrolled(api, customer)
    round_id = await begun(api, customer, token, base="rnd_before")
    await put_page(api, token, round_id, 0, b"{}")
    (found,) = await api.all("agent_rounds")
    body = {"run_id": found["run_id"], "upload_id": UPLOAD, "known": []}
    assert (await api.post("/v1/agent/rounds", body, token=token)).json()["next_page"] == 1
    again = body | {"upload_id": "a" * 32, "known": ["rnd_before"]}
    assert (await api.post("/v1/agent/rounds", again, token=token)).json() | {"id": ""} == {
        "id": "", "run_id": found["run_id"], "base": "rnd_before", "next_page": 0,
    }  # fmt: skip
    assert await api.all("agent_pages") == []


@pytest.mark.spec("L4")
async def test_what_is_unpacked_is_bounded_and_nobody_else_has_anything_unpacked(place):
    async with running_api(place, api_max_agent_page_bytes=MEBIBYTE) as api:
        customer = await api.customer()
        _, token = await enrolled(api, customer)
        round_id = await begun(api, customer, token)
        bomb = gzip.compress(b" " * (300 * MEBIBYTE), compresslevel=9)
        assert len(bomb) < MEBIBYTE
        await put_page(api, token, round_id, 0, b"", packed=bomb, expect=413)
        await put_page(api, "pagt_wrong", round_id, 0, b"", packed=bomb, expect=401)
        await put_page(api, token, round_id, 0, b"", packed=b"\0" * (2 * MEBIBYTE), expect=413)
        await put_page(api, token, round_id, 0, b"", packed=b"no gzip", expect=422)
        await put_page(api, token, round_id, 0, b"", packed=gzip.compress(b"{}")[:-4], expect=422)
        await put_page(api, token, round_id, 0, b"", packed=gzip.compress(b"{}") * 2, expect=422)
        await put_page(api, token, round_id, 0, b"", packed=zlib.compress(b"{}"), expect=415, encoding="deflate")
        assert await api.all("agent_pages") == []


@pytest.mark.spec("L4")
@pytest.mark.parametrize(
    "change",
    [
        {"password": "secret"}, {"primary": "half \\ud800"}, {"refs": ["half \\udfff"]}, {"kind": "robot"},
        {"fields": {"shoe_size": "44"}}, {"removed": "hard"}, {"id": ""}, {"name": "nul \\u0000"},
    ],
)  # fmt: skip
async def test_an_entry_holds_what_is_listed_and_nothing_else(api, change):
    customer = await api.customer()
    _, token = await enrolled(api, customer)
    round_id = await begun(api, customer, token)
    good = json.dumps({"entries": [ENTRY]}).encode()
    bad = json.dumps({"entries": [ENTRY | change]}).replace("\\\\u", "\\u").encode()
    await put_page(api, token, round_id, 0, bad, expect=422)
    await put_page(api, token, round_id, 0, good)


@pytest.mark.spec("L4")
async def test_agents_that_call_too_often_and_guesses_are_slowed_down(place):
    async with running_api(place, api_agent_requests_per_minute=10, api_sign_in_failures_per_origin=3) as api:
        _, token = await enrolled(api, await api.customer())
        answers = [(await api.get("/v1/agent/work?wait=0", token=token)).status_code for _ in range(25)]
        assert (answers[:5], 429 in answers) == ([200] * 5, True)
        tried = {"code": "penr_wrong", "version": "1"}
        answers = [(await api.post("/v1/agent/enrol", tried, token=None)).status_code for _ in range(5)]
        assert answers == [401, 401, 401, 429, 429]


@pytest.mark.spec("L4")
async def test_work_waits_for_a_round_and_hides_what_the_agent_is_at(api):
    customer = await api.customer()
    _, token = await enrolled(api, customer)
    found = await put_round(api, customer)
    work = (await api.get("/v1/agent/work?wait=0", token=token, expect=200)).json()
    assert work["round"] == {"run_id": found["run_id"], "settings": SETTINGS}
    path = f"/v1/agent/work?wait=0&busy={found['run_id']}"
    assert (await api.get(path, token=token, expect=200)).json()["round"] is None
    rounds = api.mongo.collection(Collections.AGENT_ROUNDS, PLATFORM)
    await rounds.update_one({}, {"$set": {"wanted_until": found["asked_at"]}})
    assert (await api.get("/v1/agent/work?wait=0", token=token)).json()["round"] is None


@pytest.mark.spec("L4")
async def test_a_customer_has_so_many_agents_at_most(place):
    async with running_api(place, api_max_agents=2) as api:
        customer = await api.customer()
        for name in ("one", "two"):
            await api.post(f"{customer}/directory/agents", {"name": name}, expect=201)
        await api.post(f"{customer}/directory/agents", {"name": "three"}, expect=409)
        names = [one["name"] for one in (await api.get(f"{customer}/directory/agents")).json()["items"]]
        assert names == ["two", "one"]


@pytest.mark.spec("L4")
async def test_agents_of_a_customer_have_names_of_their_own_whatever_the_case(api):
    customer = await api.customer()
    made, _ = await enrolled(api, customer, "Straße, Vienna")
    for name in ("Straße, Vienna", " STRASSE, vienna "):
        refused = (await api.post(f"{customer}/directory/agents", {"name": name}, expect=409)).json()
        assert (refused["code"], refused["errors"][0]["pointer"]) == ("agent-exists", "/name")
        assert (refused["existing"]["id"], "code" in refused["existing"]) == (made["id"], False)
    await enrolled(api, await api.customer(), "Straße, Vienna")
    await api.delete(f"{customer}/directory/agents/{made['id']}", expect=204)
    await enrolled(api, customer, "strasse, vienna")


def hostile(kind):
    """A page of some MiB that says little and would cost hundreds of times as much."""
    if kind == "wrong items":
        return b'{"removed": [%s]}' % b",".join([b"1"] * 90_000)
    if kind == "unknown names":
        return b'{"entries": [{%s}]}' % b",".join(b'"%x": 1' % number for number in range(90_000))
    if kind == "unknown fields":
        fields = {f"{number:x}": "" for number in range(90_000)}
        return json.dumps({"entries": [ENTRY | {"fields": fields}]}).encode()
    if kind == "empty lists":
        return b'{"entries": [%s]}' % b",".join([b"[]"] * 2_500_000)
    return b"[" * 150_000


@pytest.mark.spec("L4")
@pytest.mark.parametrize("kind", ["wrong items", "unknown names", "unknown fields", "empty lists", "depth"])
async def test_a_page_costs_no_more_memory_than_its_text_warrants(api, kind):
    customer = await api.customer()
    _, token = await enrolled(api, customer)
    round_id = await begun(api, customer, token)
    page = hostile(kind)
    tracemalloc.start()
    try:
        answer = await put_page(api, token, round_id, 0, page, expect=None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code in {400, 413, 422}, answer.text[:300]
    assert len(answer.content) < 20_000
    assert peak < 6 * len(page) + 32 * MEBIBYTE


@pytest.mark.spec("L4")
async def test_a_round_is_bounded_by_what_it_is_unpacked(place):
    async with running_api(place, api_max_agent_round_bytes=MEBIBYTE) as api:
        customer = await api.customer()
        _, token = await enrolled(api, customer)
        round_id = await begun(api, customer, token)
        page = b"{%s}" % (b" " * 600_000)
        await put_page(api, token, round_id, 0, page)
        await put_page(api, token, round_id, 1, page, expect=413)


@pytest.mark.spec("L4")
async def test_agents_that_wait_for_work_leave_room_for_everybody_else(place):
    async with running_api(place, api_max_requests=12, api_agent_wait_seconds=20) as api:
        customer = await api.customer()
        tokens = [(await enrolled(api, customer, str(number)))[1] for number in range(4)]
        polls = [
            asyncio.create_task(api.get("/v1/agent/work?wait=20", token=token)) for token in tokens for _ in range(2)
        ]
        done, waiting = await asyncio.wait(polls, timeout=2)
        assert {task.result().status_code for task in done} == {200}
        assert len(waiting) == 3
        await api.get(customer, expect=200)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        again = asyncio.create_task(api.get("/v1/agent/work?wait=20", token=tokens[0]))
        assert not (await asyncio.wait([again], timeout=1))[0]
        again.cancel()


@pytest.mark.spec("L4")
async def test_an_agent_that_reads_for_long_keeps_its_round_and_a_silent_one_loses_it(api):
    customer = await api.customer()
    (_, first), (_, second) = await enrolled(api, customer), await enrolled(api, customer, "other")
    round_id = await begun(api, customer, first)
    (found,) = await api.all("agent_rounds")
    body = {"run_id": found["run_id"], "upload_id": "b" * 32, "known": []}
    for minutes in (1.5, 3, 4.5):
        with api.later(minutes=minutes):
            await api.get(f"/v1/agent/work?wait=0&busy={found['run_id']}", token=first, expect=200)
            assert (await api.get("/v1/agent/work?wait=0", token=second)).json()["round"] is None
            await api.post("/v1/agent/rounds", body, token=second, expect=409)
    with api.later(minutes=5):
        await put_page(api, first, round_id, 0, b"{}")
    with api.later(minutes=7.5):
        await api.get(f"/v1/agent/work?wait=0&busy={found['run_id']}", token=second)
        assert (await api.get("/v1/agent/work?wait=0", token=second)).json()["round"] is not None
        await api.post("/v1/agent/rounds", body, token=second, expect=200)
        await put_page(api, first, round_id, 1, b"{}", expect=404)


@pytest.mark.spec("L4")
async def test_a_round_that_no_run_waits_for_takes_no_more_pages(api):
    customer = await api.customer()
    _, token = await enrolled(api, customer)
    round_id = await begun(api, customer, token)
    rounds = api.mongo.collection(Collections.AGENT_ROUNDS, PLATFORM)
    await rounds.update_one({}, {"$set": {"wanted_until": api.mongo.clock.now() - timedelta(minutes=14)}})
    await put_page(api, token, round_id, 0, b"{}")
    with api.later(minutes=2):
        await put_page(api, token, round_id, 1, b"{}", expect=409)


@pytest.mark.spec("L4")
async def test_others_are_answered_while_a_page_is_looked_at_and_its_faults_are_told(api, monkeypatch):
    _, token = await enrolled(api, customer := await api.customer())
    round_id, answered, check = await begun(api, customer, token), threading.Event(), SentPage.model_validate

    def slow(body):
        assert answered.wait(10)
        return check(body)

    monkeypatch.setattr(SentPage, "model_validate", slow)
    page = json.dumps({"entries": [ENTRY, ENTRY | {"is_disabled": "no", "password": "x"}]}).encode()
    sending = asyncio.create_task(put_page(api, token, round_id, 0, page, expect=422))
    await asyncio.sleep(0.2)
    await api.get("/v1/me")
    answered.set()
    faults = (await sending).json()["errors"]
    assert [fault["pointer"] for fault in faults] == ["/entries/1/is_disabled", "/entries/1/password"]
    await put_page(api, token, round_id, 0, b"[]", expect=422)
    await put_page(api, token, round_id, 0, json.dumps({"entries": [ENTRY]}).encode())
