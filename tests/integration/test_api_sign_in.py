"""Sign-in, sessions, tokens and the first administrator."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from postern_api.auth.service import Authenticator
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import (  # noqa: F401 - fixtures among them
    LOGIN,
    PASSWORD,
    TOKEN,
    Api,
    api,
    api_resources,
    api_settings,
    place,
    prepared,
    running_api,
)

WRONG = {"login": LOGIN, "password": "wrong password here"}
RIGHT = {"login": LOGIN, "password": PASSWORD}


async def sign_in(api, **fields):
    return await api.post("/v1/auth/sign-in", RIGHT | fields, token=None, expect=200)


@pytest.mark.spec("T3")
async def test_signing_in_gives_a_token_and_a_strict_cookie(api):
    answer = await sign_in(api, login=f"  {LOGIN.upper()} ")
    body = answer.json()
    assert set(body) == {"token", "expires_at"}
    cookies = answer.headers.get_list("set-cookie")
    session = next(cookie for cookie in cookies if cookie.startswith("postern_session="))
    assert "HttpOnly" in session
    assert "SameSite=strict" in session
    assert "Secure" not in session
    me = (await api.get("/v1/me", token=body["token"], expect=200)).json()
    assert (me["kind"], me["name"], me["role"]) == ("administrator", LOGIN, "platform_admin")
    stored = (await api.all("sessions"))[0]
    assert body["token"] not in str(stored)
    assert PASSWORD not in str(await api.all("administrators"))
    assert (await api.all("administrators"))[0]["password_hash"].startswith("$argon2id$")


@pytest.mark.spec("T3")
async def test_production_cookies_need_tls(place):
    async with running_api(place, environment="production") as api:
        answer = await sign_in(api)
        assert all("Secure" in cookie for cookie in answer.headers.get_list("set-cookie"))
        assert "max-age" in answer.headers["Strict-Transport-Security"]


@pytest.mark.spec("T3")
async def test_changes_by_cookie_need_the_csrf_header(api):
    await sign_in(api)
    refused = await api.post("/v1/customers", {"name": "Acme"}, token=None, expect=403)
    assert refused.json()["code"] == "csrf-failed"
    await api.post("/v1/customers", {"name": "Acme"}, token=None, headers={"X-CSRF-Token": "wrong"}, expect=403)
    csrf = api.client.cookies["postern_csrf"]
    me = (await api.get("/v1/me", token=None, expect=200)).json()
    assert me["csrf_token"] == csrf
    await api.post("/v1/customers", {"name": "Acme"}, token=None, headers={"X-CSRF-Token": csrf}, expect=201)
    await api.post("/v1/auth/sign-out", token=None, headers={"X-CSRF-Token": csrf}, expect=204)
    await api.get("/v1/me", token=None, expect=401)
    assert await api.all("sessions") == []


@pytest.mark.spec("T3")
async def test_failed_sign_ins_tell_nothing_of_the_account(api):
    known = (await api.post("/v1/auth/sign-in", WRONG, token=None, expect=401)).json()
    unknown = (await api.post("/v1/auth/sign-in", WRONG | {"login": "nobody"}, token=None, expect=401)).json()
    assert known == unknown


@pytest.mark.spec("T3")
async def test_an_unknown_login_costs_the_same_work():
    from postern_api.auth.passwords import Passwords

    passwords = Passwords()
    stored = await passwords.hash("one password")

    async def best(hashed):
        times = []
        for _ in range(3):
            began = time.perf_counter()
            assert not await passwords.verify(hashed, "another password")
            times.append(time.perf_counter() - began)
        return min(times)

    known, unknown = await best(stored), await best(None)
    passwords.close()
    assert 0.3 < known / unknown < 3


@pytest.mark.spec("T3")
async def test_failures_are_limited_per_account(place):
    async with running_api(place, api_sign_in_failures_per_account=3) as api:
        for _ in range(3):
            await api.post("/v1/auth/sign-in", WRONG, token=None, expect=401)
        limited = await api.post("/v1/auth/sign-in", RIGHT, token=None, expect=429)
        assert int(limited.headers["Retry-After"]) > 0
        assert limited.json()["code"] == "rate-limited"
        await api.post("/v1/auth/sign-in", WRONG | {"login": "other"}, token=None, expect=401)
        with api.later(days=1):
            await sign_in(api)


@pytest.mark.spec("T3")
async def test_failures_are_limited_per_origin_and_success_is_no_failure(place):
    async with running_api(place, api_sign_in_failures_per_origin=4) as api:
        for _ in range(6):
            await sign_in(api)
        for number in range(4):
            await api.post("/v1/auth/sign-in", WRONG | {"login": f"user{number}"}, token=None, expect=401)
        await api.post("/v1/auth/sign-in", RIGHT, token=None, expect=429)


@pytest.mark.spec("T3")
async def test_sessions_are_listed_revoked_and_end_by_time(api):
    first = (await sign_in(api)).json()["token"]
    second = (await sign_in(api)).json()["token"]
    sessions = (await api.get("/v1/me/sessions", token=second, expect=200)).json()["items"]
    assert [session["current"] for session in sessions] == [True, False]
    assert sessions[0]["origin"] == "192.0.2.77"
    await api.delete(f"/v1/me/sessions/{sessions[1]['id']}", token=second, expect=204)
    await api.get("/v1/me", token=first, expect=401)
    await api.delete(f"/v1/me/sessions/{sessions[1]['id']}", token=second, expect=404)
    with api.later(hours=13):
        await api.get("/v1/me", token=second, expect=401)


@pytest.mark.spec("T5")
async def test_sessions_and_tokens_of_a_removed_administrator_end_at_once(api):
    session = (await sign_in(api)).json()["token"]
    token = (await api.post("/v1/me/tokens", {"name": "t"}, token=session, expect=201)).json()["token"]
    await api.get("/v1/me", token=token, expect=200)
    administrators = api.mongo.collection(Collections.ADMINISTRATORS, PLATFORM)
    await administrators.update_one({}, {"$set": {"state": "removed"}})
    await api.get("/v1/me", token=session, expect=401)
    await api.get("/v1/me", token=token, expect=401)
    await api.post("/v1/auth/sign-in", RIGHT, token=None, expect=401)


@pytest.mark.spec("T4")
async def test_a_token_is_shown_once_stored_hashed_and_its_use_recorded(api):
    made = await api.post("/v1/me/tokens", {"name": "nightly", "scopes": ["customers:read"]}, expect=201)
    token = made.json()
    assert made.headers["Location"] == f"/v1/me/tokens/{token['id']}"
    assert token["token"] not in str(await api.all("tokens"))
    listed = (await api.get("/v1/me/tokens", expect=200)).json()["items"]
    assert [item["id"] for item in listed] == [token["id"]]
    assert "token" not in listed[0]
    assert listed[0]["last_used_at"] is None
    await api.get("/v1/customers", token=token["token"], expect=200)
    await api.post("/v1/customers", {"name": "x"}, token=token["token"], expect=403)
    assert (await api.get("/v1/me/tokens", expect=200)).json()["items"][0]["last_used_at"] is not None
    await api.delete(f"/v1/me/tokens/{token['id']}", expect=204)
    await api.get("/v1/customers", token=token["token"], expect=401)


@pytest.mark.spec("T4")
async def test_tokens_expire_within_a_year(api):
    now = datetime.now(UTC)
    for wanted in (now + timedelta(days=400), now - timedelta(hours=1)):
        body = {"name": "t", "expires_at": wanted.isoformat()}
        assert (await api.post("/v1/me/tokens", body, expect=422)).json()["errors"][0]["pointer"] == "/expires_at"
    body = {"name": "t", "expires_at": (now + timedelta(days=2)).isoformat()}
    token = (await api.post("/v1/me/tokens", body, expect=201)).json()["token"]
    await api.get("/v1/me", token=token, expect=200)
    with api.later(days=3):
        await api.get("/v1/me", token=token, expect=401)


@pytest.mark.spec("T4")
async def test_nobody_hands_out_more_than_they_have(api):
    customer = await api.customer()
    auditor = await api.token_for(customer, "customer_auditor")
    admin = await api.token_for(customer)
    await api.post("/v1/me/tokens", {"name": "t", "role": "platform_admin"}, token=admin, expect=422)
    await api.post("/v1/me/tokens", {"name": "t", "role": "customer_admin"}, token=auditor, expect=422)
    await api.post("/v1/me/tokens", {"name": "t", "scopes": ["domains:write"]}, token=auditor, expect=422)
    mine = (await api.post("/v1/me/tokens", {"name": "t", "role": "customer_auditor"}, token=admin, expect=201)).json()
    await api.get(f"{customer}/domains", token=mine["token"], expect=200)
    await api.post(f"{customer}/domains", {"name": "a.com"}, token=mine["token"], expect=403)
    assert (await api.get("/v1/me/tokens", token=auditor, expect=200)).json()["items"] == []
    narrow = await api.token_for(customer, scopes=["tokens:write", "domains:read", "self:write"])
    child = {"name": "t", "role": "customer_admin"}
    wider = (await api.post(f"{customer}/tokens", child, token=narrow, expect=201)).json()
    assert sorted(wider["scopes"]) == ["domains:read", "self:write", "tokens:write"]
    await api.post(f"{customer}/tokens", child | {"scopes": ["users:read"]}, token=narrow, expect=422)


@pytest.mark.spec("T4")
async def test_a_tokens_token_ends_with_it(api):
    parent = (await api.post("/v1/me/tokens", {"name": "p"}, expect=201)).json()
    child = (await api.post("/v1/me/tokens", {"name": "c"}, token=parent["token"], expect=201)).json()
    assert child["expires_at"] <= parent["expires_at"]
    await api.get("/v1/me", token=child["token"], expect=200)
    await api.delete(f"/v1/me/tokens/{parent['id']}", expect=204)
    await api.get("/v1/me", token=child["token"], expect=401)


@pytest.mark.spec("T4")
@pytest.mark.parametrize("maker", ["administrator", "customer"])
async def test_whatever_came_from_a_token_ends_with_it_however_far(api, maker):
    first = {"name": "p", "role": "customer_admin"}
    customer = await api.customer()
    session = (await sign_in(api)).json()["token"]
    if maker == "administrator":
        made = await api.post("/v1/me/tokens", {"name": "p"}, token=session, expect=201)
    else:
        made = await api.post(f"{customer}/tokens", first, expect=201)
    texts = [made.json()["token"]]
    for _ in range(3):
        texts.append((await api.post("/v1/me/tokens", {"name": "c"}, token=texts[-1], expect=201)).json()["token"])
    for text in texts:
        await api.get("/v1/me", token=text, expect=200)
    await api.delete(made.headers["Location"], token=session, expect=204)
    for text in texts:
        await api.get("/v1/me", token=text, expect=401)


@pytest.mark.spec("T4")
async def test_a_token_may_do_no_more_than_its_owner_still_may(api):
    one, two = await api.customer("One"), await api.customer("Two")
    ids = [path.rsplit("/", 1)[-1] for path in (one, two)]
    administrators = api.mongo.collection(Collections.ADMINISTRATORS, PLATFORM)
    await administrators.update_one({}, {"$set": {"role": "customer_admin", "customer_ids": ids}})
    session = (await sign_in(api)).json()["token"]
    token = (await api.post("/v1/me/tokens", {"name": "t"}, token=session, expect=201)).json()["token"]
    await api.get(two, token=token, expect=200)
    await administrators.update_one({}, {"$set": {"customer_ids": ids[:1]}})
    await api.get(one, token=token, expect=200)
    await api.get(two, token=token, expect=404)
    assert (await api.get("/v1/me", token=token, expect=200)).json()["customer_ids"] == ids[:1]
    await administrators.update_one({}, {"$set": {"role": "customer_auditor"}})
    await api.get("/v1/me", token=token, expect=401)


@pytest.mark.spec("T4")
async def test_chains_of_tokens_end(api):
    text = TOKEN
    for _ in range(8):
        text = (await api.post("/v1/me/tokens", {"name": "c"}, token=text, expect=201)).json()["token"]
    await api.post("/v1/me/tokens", {"name": "c"}, token=text, expect=403)


@pytest.mark.spec("T4")
async def test_a_token_is_where_its_location_says(api):
    customer = await api.customer()
    session = (await sign_in(api)).json()["token"]
    for path in ("/v1/me/tokens", f"{customer}/tokens"):
        made = await api.post(path, {"name": "t", "role": "customer_admin"} if "cus_" in path else {"name": "t"},
                              token=session, expect=201)  # fmt: skip
        place = made.headers["Location"]
        shown = await api.get(place, token=session, expect=200)
        assert shown.json() == {name: value for name, value in made.json().items() if name != "token"}
        assert shown.headers["ETag"] == made.headers["ETag"]
        await api.get("/v1/me", token=made.json()["token"], expect=200)
        assert (await api.get(place, token=session)).headers["ETag"] != made.headers["ETag"]
        await api.call("DELETE", place, token=session, expect=428)
        await api.delete(place, token=session, tag='"9"', expect=412)
        await api.get(place, expect=200 if "cus_" in path else 404)
        await api.delete(place, token=session, tag=made.headers["ETag"], expect=204)
        await api.get(place, token=session, expect=404)


@pytest.mark.spec("T3")
async def test_guessing_from_elsewhere_locks_nobody_out_where_they_have_signed_in(place):
    async with running_api(place, api_sign_in_failures_per_account=3) as api:
        await sign_in(api)
        stranger = Api(api.resources, origin="198.51.100.9")
        for _ in range(3):
            await stranger.post("/v1/auth/sign-in", WRONG, token=None, expect=401)
        await stranger.post("/v1/auth/sign-in", RIGHT, token=None, expect=429)
        for _ in range(3):
            await api.post("/v1/auth/sign-in", WRONG, token=None, expect=401)
        await api.post("/v1/auth/sign-in", RIGHT, token=None, expect=429)
    async with running_api(place, api_sign_in_failures_per_account=3) as api:
        with api.later(days=1):
            for _ in range(3):
                await Api(api.resources, origin="198.51.100.9").post("/v1/auth/sign-in", WRONG, token=None, expect=401)
            await sign_in(api)


@pytest.mark.spec("T3")
async def test_a_host_is_one_origin_by_all_addresses_of_its_network(place):
    async with running_api(place, api_sign_in_failures_per_origin=3) as api:
        for number in range(3):
            host = Api(api.resources, origin=f"2001:db8:1:2::{number}")
            await host.post("/v1/auth/sign-in", WRONG | {"login": f"u{number}"}, token=None, expect=401)
        host = Api(api.resources, origin="2001:db8:1:2:ffff::1")
        await host.post("/v1/auth/sign-in", RIGHT, token=None, expect=429)
        await Api(api.resources, origin="2001:db8:1:3::1").post("/v1/auth/sign-in", RIGHT, token=None, expect=200)


@pytest.mark.spec("T3")
async def test_sessions_are_paged_shown_and_ended_by_their_tag(api):
    tokens = [(await sign_in(api)).json()["token"] for _ in range(3)]
    page = (await api.get("/v1/me/sessions?limit=2", token=tokens[2], expect=200)).json()
    rest = await api.get(f"/v1/me/sessions?limit=2&cursor={page['next_cursor']}", token=tokens[2], expect=200)
    assert [one["current"] for one in page["items"] + rest.json()["items"]] == [True, False, False]
    path = f"/v1/me/sessions/{page['items'][1]['id']}"
    shown = await api.get(path, token=tokens[2], expect=200)
    assert shown.json() == page["items"][1]
    await api.get(path, expect=404)
    await api.call("DELETE", path, token=tokens[2], expect=428)
    await api.delete(path, token=tokens[2], tag=shown.headers["ETag"], expect=204)
    await api.get("/v1/me", token=tokens[1], expect=401)


@pytest.mark.spec("T4")
async def test_a_customers_tokens_are_listed_and_ended(api):
    customer = await api.customer()
    token = await api.token_for(customer)
    (listed,) = (await api.get(f"{customer}/tokens", expect=200)).json()["items"]
    assert listed["role"] == "customer_admin"
    await api.delete(f"{customer}/tokens/{listed['id']}", expect=204)
    await api.get(customer, token=token, expect=401)
    changes = [(event["data"]["resource"], event["data"]["action"]) for event in await api.events("SettingsChanged")]
    assert changes == [("customer", "created"), ("token", "created"), ("token", "deleted")]


@pytest.mark.spec("T3")
async def test_the_first_administrator_is_made_once_by_any_number_of_processes(place):
    resources = [api_resources(api_settings(place)) for _ in range(4)]
    await asyncio.gather(*(Authenticator(one).bootstrap() for one in resources))
    for name in (Collections.ADMINISTRATORS, Collections.TOKENS):
        assert await resources[0].mongo.collection(name, PLATFORM).count({}) == 1
    for one in resources:
        one.passwords.close()
        one.mongo.close()


@pytest.mark.spec("T4")
async def test_the_settings_token_lives_as_long_as_they_name_it(place):
    async with running_api(place) as api:
        await api.get("/v1/customers", expect=200)
    other = "another-platform-token-for-scripts"
    async with running_api(place, api_bootstrap_token=other) as api:
        await api.get("/v1/customers", token=TOKEN, expect=401)
        await api.get("/v1/customers", token=other, expect=200)
    async with running_api(place, api_bootstrap_token="") as api:
        await api.get("/v1/customers", token=other, expect=401)
