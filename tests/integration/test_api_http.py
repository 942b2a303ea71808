"""What all routes share: problems, ETags, repeated requests, limits, headers, and the database away."""

import asyncio
import json
import time
from datetime import timedelta

import pytest

from tests.servers.api import TOKEN, Api, api, api_resources, api_settings, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.directory import set_up
from tests.servers.waiting import eventually_async

KEY = {"Idempotency-Key": "one"}


async def test_unknown_paths_and_methods_are_problems(api):
    assert (await api.get("/nowhere", expect=404)).json()["code"] == "not-found"
    assert (await api.get("/v1/customers/", expect=404)).json()["code"] == "not-found"
    answer = await api.call("PUT", "/v1/customers", {}, expect=405)
    assert answer.json()["code"] == "method-not-allowed"
    assert answer.headers["Allow"] == "GET, HEAD, POST"


async def test_head_is_get_without_the_body(api):
    customer = await api.customer()
    for path in (
        customer,
        "/v1/customers",
        "/v1/me",
        "/openapi.json",
        "/docs",
        "/livez",
        "/nowhere",
        "/v1/customers/x",
    ):
        full, head = await api.get(path), await api.client.head(path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert head.status_code == full.status_code
        assert head.content == b""
        same = ("content-type", "content-length", "etag", "cache-control")
        assert [head.headers.get(name) for name in same] == [full.headers.get(name) for name in same]
        assert head.headers["X-Request-Id"]
    assert (await api.client.head(customer)).status_code == 401
    refused = await api.client.head(f"{customer}/directory/sync", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")


async def test_problems_carry_the_request_id_and_the_trace(place):
    async with running_api(place, api_max_body_bytes=4096) as api:
        json_type = {"Content-Type": "application/json"}
        answers = [
            await api.get("/v1/me", token=None, expect=401),
            await api.get("/v1/customers/x", expect=404),
            await api.call("PUT", "/v1/me", expect=405),
            await api.call("POST", "/v1/customers", content=b"x" * 5000, headers=json_type, expect=413),
            await api.call("POST", "/v1/customers", content=b"{", headers=json_type, expect=422),
            await api.call("DELETE", await api.customer(), expect=428),
        ]
        assert all(answer.headers["X-Request-Id"] and answer.headers["traceparent"] for answer in answers)


async def test_more_requests_than_may_be_are_answered_at_once(place):
    async with running_api(place, api_max_requests=10) as api:
        answers = await asyncio.gather(*(api.get("/v1/customers") for _ in range(60)))
        assert {answer.status_code for answer in answers} == {200, 503}
        assert all(answer.headers["Retry-After"] for answer in answers if answer.status_code == 503)
        assert (await api.get("/v1/customers")).status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for(api, monkeypatch):
    monkeypatch.setattr("postern_api.http.middleware.BODY_SECONDS", 0.2)

    async def dripping():
        yield b"{"
        await asyncio.sleep(5)

    headers = {"Content-Type": "application/json"}
    answer = await api.call("POST", "/v1/customers", content=dripping(), headers=headers, expect=408)
    assert answer.json()["code"] == "request-timeout"


async def test_an_answer_to_many_mistakes_is_short(api):
    for mistakes, told in ((90, 50), (1000, 1)):
        body = {f"{'x' * 500}{n}": 1 for n in range(mistakes)}
        answer = await api.post("/v1/auth/sign-in", body, token=None, expect=422)
        assert len(answer.json()["errors"]) == told
        assert len(answer.content) < 50_000


async def test_searches_for_what_no_pattern_takes_are_refused(api):
    customer = await api.customer()
    for query in ("users?search=%00", "messages?subject=a%00", "messages?sender=%00", "messages?recipient=%00"):
        refused = await api.get(f"{customer}/{query}", expect=422)
        assert refused.json()["errors"][0]["in"] == "query"
    for query in ("users?search=", "messages?subject=", f"messages?sender={'x' * 321}"):
        await api.get(f"{customer}/{query}", expect=422)
    for text in ("(((((a%2B)%2B)%2B", "[", "\\", "$where", "*" * 100):
        assert (await api.get(f"{customer}/users?search={text}", expect=200)).json()["items"] == []


async def test_fields_at_fault_are_pointed_at(api):
    answer = await api.post("/v1/customers", {"nam": "x", "allowed_users": -1}, expect=422)
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/name", "/nam", "/allowed_users"}
    for wrong in (b"{", b"\xff\xfe", b'{"name": }', b"[]", b"null", b'"x"', b"1e999", b'{"name":"x","name"'):
        headers = {"Content-Type": "application/json"}
        await api.call("POST", "/v1/customers", content=wrong, headers=headers, expect=422)
    await api.call("POST", "/v1/customers", content=b'{"name":"x"}', headers={"Content-Type": "text/plain"}, expect=415)
    await api.call(
        "POST", "/v1/customers", content=b"[" * 100_000, headers={"Content-Type": "application/json"}, expect=422
    )
    listed = await api.get("/v1/customers?limit=0", expect=422)
    assert listed.json()["errors"] == [{"pointer": "/limit", "in": "query", "message": "the number must be 1 or more"}]
    assert (await api.post("/v1/customers", {"name": "x", "allowed_users": True})).status_code == 422
    assert (await api.post("/v1/customers", {"name": "x", "allowed_users": 10**30})).status_code == 422


async def test_a_body_past_the_limit_is_refused(place):
    async with running_api(place, api_max_body_bytes=4096) as api:
        large = json.dumps({"name": "x" * 5000}).encode()
        headers = {"Content-Type": "application/json"}
        await api.call("POST", "/v1/customers", content=large, headers=headers, expect=413)

        async def chunks():
            for start in range(0, len(large), 1000):
                yield large[start : start + 1000]

        await api.call("POST", "/v1/customers", content=chunks(), headers=headers, expect=413)


async def test_every_answer_has_safe_headers_and_continues_the_trace(api):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for path in ("/v1/customers", "/nowhere", "/livez", "/openapi.json"):
        answer = await api.get(path, headers={"traceparent": trace, "X-Request-Id": "req-1"})
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["X-Request-Id"] == "req-1"
        assert answer.headers["traceparent"].split("-")[1] == trace.split("-")[1]
        assert answer.headers["Cache-Control"] == "no-store"
    forged = await api.get("/livez", headers={"X-Request-Id": "a b<script>"})
    assert forged.headers["X-Request-Id"] != "a b<script>"
    await api.post("/v1/customers", {"name": "x"}, headers={"traceparent": trace}, expect=201)
    assert trace.split("-")[1] in (await api.events("SettingsChanged"))[0]["traceparent"]


async def test_documents_need_no_sign_in_and_the_page_nothing_from_elsewhere(api):
    assert (await api.get("/openapi.json", token=None, expect=200)).json()["openapi"].startswith("3.1")
    assert (await api.get("/asyncapi.json", token=None, expect=200)).json()["asyncapi"] == "3.0.0"
    assert (await api.get("/livez", token=None, expect=200)).text == "ok\n"
    page = await api.get("/docs", token=None, expect=200)
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "http" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert name in page.text
        asset = await api.get(f"/docs/assets/{name}", token=None, expect=200)
        assert len(asset.content) > 100
    await api.get("/docs/assets/..%2Fcore.py", token=None, expect=404)


async def test_text_that_is_no_unicode_is_refused_not_failed(api):
    headers = {"Content-Type": "application/json"}
    for body in (
        rb'{"login":"\ud800","password":"x"}',
        rb'{"login":"x","password":"\udfff"}',
        rb'{"login":"\u0000","password":"\u0000"}',
    ):
        answer = await api.call("POST", "/v1/auth/sign-in", content=body, headers=headers, token=None)
        assert answer.status_code in {401, 422}
    for path in ("/v1/customers/%00", "/v1/customers/%ff%fe", "/v1/me/tokens/%ed%a0%80", "/v1/customers?name=%ff"):
        answer = await api.get(path)
        assert answer.status_code in {200, 404, 405, 422}
    for name in ("Authorization", "Idempotency-Key", "If-Match", "X-Request-Id", "Cookie", "traceparent"):
        for value in (b"Bearer \xff\xfe", b"postern_session=\xff", b"\xc3\x28"):
            answer = await api.call("POST", "/v1/me/tokens", {"name": "t"}, headers={name: value})
            assert answer.status_code in {201, 401, 409, 422}


@pytest.mark.spec("R13")
async def test_sizes_and_retention_stay_within_the_platforms_limits(api):
    customer = await api.customer()
    shown = await api.get(customer, expect=200)
    assert shown.json()["max_message_bytes"] == 50 * 1024 * 1024
    assert shown.json()["retention"] == {
        "trace_days": 30, "quarantine_days": 30, "audit_days": 365, "deleted_users_days": 30,
    }  # fmt: skip
    too_large = await api.patch(customer, {"max_message_bytes": 50 * 1024 * 1024 + 1}, expect=422)
    assert too_large.json()["errors"][0]["pointer"] == "/max_message_bytes"
    too_long = await api.patch(customer, {"retention": {"trace_days": 366}}, expect=422)
    assert too_long.json()["errors"][0]["pointer"] == "/retention/trace_days"
    body = {"max_message_bytes": 10 * 1024 * 1024, "retention": {"trace_days": 14}, "recipient_mode": "known_only"}
    changed = (await api.patch(customer, body, tag=shown.headers["ETag"], expect=200)).json()
    assert changed["retention"] == shown.json()["retention"] | {"trace_days": 14}
    assert (changed["max_message_bytes"], changed["recipient_mode"]) == (10 * 1024 * 1024, "known_only")
    await api.patch(customer, {"name": "x"}, tag=shown.headers["ETag"], expect=412)
    await api.patch(customer, {"name": None}, expect=422)
    await api.patch(customer, {"state": "suspended"}, expect=422)
    merge = {"If-Match": "*", "Content-Type": "application/merge-patch+json"}
    await api.call("PATCH", customer, content=b'{"name":"Merged"}', headers=merge, expect=200)


async def test_whoever_accepts_any_version_is_not_refused_for_anothers_change(api):
    customer = await api.customer()
    made = (await api.post(f"{customer}/sites", {"servers": [{"host": "127.0.0.9"}]}, expect=201)).json()
    for path, name in ((customer, "name"), (f"{customer}/sites/{made['id']}", "description")):
        answers = await asyncio.gather(*(api.patch(path, {name: f"n{n}"}) for n in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        tag = (await api.get(path)).headers["ETag"]
        answers = await asyncio.gather(*(api.patch(path, {name: f"m{n}"}, tag=tag) for n in range(5)))
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]


async def test_a_customer_goes_only_when_it_holds_nothing(api):
    customer = await api.customer()
    token = await api.token_for(customer)
    await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    assert (await api.delete(customer, expect=409)).json()["code"] == "customer-not-empty"
    await api.delete(f"{customer}/domains/acme.com", expect=204)
    await api.call("DELETE", customer, expect=428)
    await api.delete(customer, expect=204)
    await api.get(customer, expect=404)
    await api.get("/v1/me", token=token, expect=401)


@pytest.mark.spec("V3")
async def test_a_change_and_its_event_are_both_there_or_neither(api, monkeypatch):
    customer = await api.customer()
    before = len(await api.events())

    async def broken(*arguments, **options):
        raise RuntimeError("no event")

    monkeypatch.setattr("postern_common.outbox.append", broken)
    answer = await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=503)
    assert answer.json()["error_id"].startswith("err_")
    assert "no event" not in answer.text
    await api.post(f"{customer}/sites", {"servers": [{"host": "127.0.0.9"}]}, expect=503)
    monkeypatch.undo()
    assert await api.all("domains") == []
    assert await api.all("sites") == []
    assert len(await api.events()) == before


@pytest.mark.spec("S8")
async def test_a_synchronisation_is_asked_for_once(api):
    customer = await api.customer()
    await set_up(api, customer)
    asked = await api.post(f"{customer}/directory/sync", expect=202)
    run = asked.json()
    assert run["state"] == "requested"
    assert (await api.get(asked.headers["Location"], expect=200)).json() == run
    again = (await api.post(f"{customer}/directory/sync", expect=409)).json()
    assert (again["code"], again["existing"]) == ("sync-running", run)
    assert (await api.get(f"{customer}/directory/runs?state=requested", expect=200)).json()["items"] == [run]
    (event,) = await api.events("SyncRequested")
    assert event["subject"] == run["id"]


async def test_while_the_database_is_away_every_answer_is_temporary_and_quick(place):
    away = ("mongodb://127.0.0.1:1/?replicaSet=rs0&directConnection=false", "nowhere")
    async with running_api(place) as api:
        dark = Api(api_resources(api_settings(away)))
        began = time.monotonic()
        answers = await asyncio.gather(
            dark.get("/v1/customers"),
            dark.post("/v1/auth/sign-in", {"login": "a", "password": "b"}, token=None),
            dark.post("/v1/customers", {"name": "x"}, headers=KEY),
        )
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        assert time.monotonic() - began < timedelta(seconds=15).total_seconds()
        assert (await dark.get("/livez", token=None)).status_code == 200
        dark.mongo.close()
        await api.get("/v1/customers", expect=200)


@pytest.mark.spec("V4")
async def test_the_trace_is_filtered_and_shows_no_more_than_it_should(api):
    customer = await api.customer()
    scope = {"customer_id": customer.rsplit("/", 1)[-1]}
    now = api.resources.now()
    for number, state in enumerate(("delivered", "deferred", "delivered")):
        await api.mongo.db["messages"].insert_one(message(number, state, now + timedelta(minutes=number)) | scope)
    await api.mongo.db["messages"].insert_one(message(9, "delivered", now) | {"customer_id": "cus_other"})

    async def ids(**query):
        found = await api.client.get(
            f"{customer}/messages", params=query, headers={"Authorization": "Bearer the-platform-token-of-these-tests"}
        )
        assert found.status_code == 200, found.text
        return [one["id"] for one in found.json()["items"]]

    assert await ids() == ["msg_2", "msg_1", "msg_0"]
    assert await ids(sort="received_at", limit=2) == ["msg_0", "msg_1"]
    assert await ids(sender="BOB1@sender.example") == ["msg_1"]
    assert await ids(sender="sender.example") == ["msg_2", "msg_1", "msg_0"]
    assert await ids(recipient="ann0@acme.com") == ["msg_0"]
    assert await ids(subject="SUBJECT 2") == ["msg_2"]
    assert await ids(subject="Sub.*") == []
    assert await ids(message_id="id1@sender.example") == ["msg_1"]
    assert await ids(queue_id="Q2") == ["msg_2"]
    assert await ids(state="deferred") == ["msg_1"]
    assert await ids(**{"from": (now + timedelta(seconds=30)).isoformat()}) == ["msg_2", "msg_1"]
    assert await ids(to=(now + timedelta(seconds=30)).isoformat()) == ["msg_0"]
    one = (await api.get(f"{customer}/messages/msg_0", expect=200)).json()
    assert set(one) == {
        "id", "queue_id", "message_id", "direction", "sender", "recipients", "subject", "size", "received_at", "steps",
        "queue", "due_at", "expires_at",
    }  # fmt: skip
    assert set(one["recipients"][0]) == {"address", "state", "reply", "next_hop", "next_attempt_at"}
    await api.get(f"{customer}/messages/msg_9", expect=404)
    await api.get(f"{customer}/messages?from=yesterday", expect=422)


def message(number, state, at):
    recipient = {
        "address": f"ann{number}@acme.com", "key": f"ann{number}@acme.com", "user_id": None, "state": state,
        "reply": "250 2.0.0 Ok", "next_hop": "192.0.2.25:25", "attempts": 1, "next_attempt_at": None, "notify": [],
        "orcpt": None,
    }  # fmt: skip
    sender = f"bob{number}@sender.example"
    return {
        "_id": f"msg_{number}",
        "queue_id": f"Q{number}",
        "direction": "inbound",
        "sender": sender,
        "sender_key": sender,
        "recipients": [recipient],
        "recipient_keys": [recipient["key"]],
        "subject": f"Subject {number}",
        "message_id": f"<id{number}@sender.example>",
        "size": 1000,
        "peer_ip": "192.0.2.1",
        "received_at": at,
        "version": 1,
        "state": "done",
        "due_at": None,
        "expires_at": at + timedelta(days=5),
        "pending_events": [],
        "steps": [{"at": at, "actor": "smtp-edge", "what": "accepted", "detail": "from 192.0.2.1"}],
    }


async def test_a_killed_database_is_told_as_temporary_and_comes_back_by_itself(api, mongod_unit):
    customer = await api.customer()
    mongod_unit.kill()
    answers = await asyncio.gather(api.get(customer), api.post(f"{customer}/domains", {"name": "acme.com"}))
    assert {answer.status_code for answer in answers} == {503}
    mongod_unit.start(60)
    await eventually_async(lambda: _is_there(api, customer), timeout=30)
    await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    assert len(await api.all("domains")) == len(await api.events("DomainAdded")) == 1


async def _is_there(api, customer):
    return (await api.get(customer)).status_code == 200
