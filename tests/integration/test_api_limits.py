"""How many things a customer may have, and how many of its requests may wait at once."""

import asyncio

import pytest

from tests.servers.api import place, prepared, running_api  # noqa: F401 - fixtures

LIMITS = {
    "api_max_domains": 2,
    "api_max_sites": 2,
    "api_max_tokens": 2,
    "api_max_verifications": 1,
    "api_verify_wait_seconds": 1,
}


@pytest.fixture
async def api(place):
    async with running_api(place, **LIMITS) as served:
        yield served


def _things(kind, number):
    server = {"host": "127.0.0.9", "port": 25, "priority": 10}
    return {
        "domains": {"name": f"d{number}.example.com"},
        "sites": {"description": f"site {number}", "servers": [server]},
        "tokens": {"name": f"token {number}", "role": "customer_auditor"},
    }[kind]


@pytest.mark.spec("T2")
@pytest.mark.parametrize("kind", ["domains", "sites", "tokens"])
async def test_a_customer_fills_its_own_share_and_nobody_elses(api, kind):
    customer, other = await api.customer("One"), await api.customer("Two")
    for number in range(2):
        await api.post(f"{customer}/{kind}", _things(kind, number), expect=201)
    problem = (await api.post(f"{customer}/{kind}", _things(kind, 2), expect=409)).json()
    assert problem["code"] == "limit-reached"
    assert problem["detail"].startswith(f"There are 2 {kind} already")
    assert len((await api.get(f"{customer}/{kind}", expect=200)).json()["items"]) == 2
    await api.post(f"{other}/{kind}", _things(kind, 3), expect=201)


@pytest.mark.spec("D4")
async def test_at_the_limit_a_domain_that_is_there_is_still_named_as_such(api):
    customer = await api.customer()
    for number in range(2):
        await api.post(f"{customer}/domains", _things("domains", number), expect=201)
    problem = (await api.post(f"{customer}/domains", _things("domains", 1), expect=409)).json()
    assert problem["code"] == "domain-exists"


@pytest.mark.spec("T4")
async def test_tokens_of_a_person_have_a_limit_too(api):
    for name in ("one", "two"):
        await api.post("/v1/me/tokens", {"name": name}, expect=201)
    problem = (await api.post("/v1/me/tokens", {"name": "three"}, expect=409)).json()
    assert problem["code"] == "limit-reached"


@pytest.mark.spec("D2")
async def test_verify_requests_of_one_customer_wait_in_limited_number(api):
    customer, other = await api.customer("One"), await api.customer("Two")
    for path in (customer, other):
        await api.post(f"{path}/domains", {"name": "acme.com"}, expect=201)
    waiting = asyncio.create_task(api.post(f"{customer}/domains/acme.com/verify"))
    await asyncio.sleep(0.3)
    refused = await api.post(f"{customer}/domains/acme.com/verify", expect=429)
    assert refused.json()["code"] == "rate-limited"
    assert int(refused.headers["Retry-After"]) >= 1
    # No verifier runs here: those that were let in wait, and are told to come again.
    assert (await api.post(f"{other}/domains/acme.com/verify")).status_code == 503
    assert (await waiting).status_code == 503
    assert (await api.post(f"{customer}/domains/acme.com/verify")).status_code == 503
