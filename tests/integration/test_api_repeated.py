"""`Idempotency-Key`: a repetition gets the first answer, and a change is made once whatever fails in between."""

import asyncio

from postern_api.__main__ import rotate_keys
from postern_api.http.idempotency import LEASE
from postern_common.secrets import SecretBox
from tests.servers.api import KEYS, api, api_settings, place, prepared, running_api  # noqa: F401 - fixtures

KEY = {"Idempotency-Key": "one"}


async def test_a_repeated_request_gets_the_first_answer(api):
    first = await api.post("/v1/customers", {"name": "Acme"}, headers=KEY, expect=201)
    again = await api.post("/v1/customers", {"name": "Acme"}, headers=KEY, expect=201)
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Idempotent-Replay"] == "true"
    assert len(await api.all("customers")) == 1
    other = await api.post("/v1/customers", {"name": "Other"}, headers=KEY, expect=422)
    assert other.json()["code"] == "idempotency-key-reused"
    customer = first.headers["Location"]
    await api.post(f"{customer}/domains", {"name": "acme.com"}, headers=KEY, expect=201)
    admin = await api.token_for(customer)
    await api.post("/v1/me/tokens", {"name": "Acme"}, headers=KEY, token=admin, expect=201)
    with api.later(hours=25):
        await api.post("/v1/customers", {"name": "Other"}, headers=KEY, expect=201)


async def test_a_repeated_token_request_shows_the_same_token_which_is_stored_sealed(api):
    first = (await api.post("/v1/me/tokens", {"name": "t"}, headers=KEY, expect=201)).json()
    assert (await api.post("/v1/me/tokens", {"name": "t"}, headers=KEY, expect=201)).json() == first
    assert first["token"] not in str(await api.all("idempotency"))


async def test_a_refused_request_can_be_mended_under_its_key(api):
    customer = await api.customer()
    await api.post(f"{customer}/domains", {"name": "localhost"}, headers=KEY, expect=422)
    await api.post(f"{customer}/domains", {"name": "acme.com"}, headers=KEY, expect=201)
    for bad in ("", "x" * 300, "a\tb"):
        await api.post("/v1/customers", {"name": "x"}, headers={"Idempotency-Key": bad}, expect=422)


async def test_repetitions_at_the_same_time_make_one_thing(api):
    answers = await asyncio.gather(*(api.post("/v1/customers", {"name": "A"}, headers=KEY) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency-in-progress"}
    assert len(await api.all("customers")) == 1


async def test_a_request_whose_process_died_runs_again_after_the_lease(api):
    await api.post("/v1/customers", {"name": "A"}, headers=KEY, expect=201)
    await api.mongo.db["idempotency"].update_one({}, {"$set": {"answer": None, "is_made": False}})
    await api.post("/v1/customers", {"name": "A"}, headers=KEY, expect=409)
    with api.later(seconds=100):
        await api.post("/v1/customers", {"name": "A"}, headers=KEY, expect=201)


async def test_a_change_under_a_key_is_made_once_whatever_dies_before_its_answer(api, monkeypatch):
    def broken(document):
        raise RuntimeError("died between the change and the answer")

    monkeypatch.setattr("postern_api.customers.routes.to_customer", broken)
    await api.post("/v1/customers", {"name": "A"}, headers=KEY, expect=503)
    monkeypatch.undo()
    again = await api.post("/v1/customers", {"name": "A"}, headers=KEY, expect=409)
    assert again.json()["code"] == "idempotency-answer-lost"
    await api.mongo.db["idempotency"].update_one({}, {"$set": {"lease_until": api.resources.now() + LEASE}})
    again = await api.post("/v1/customers", {"name": "A"}, headers=KEY, expect=409)
    assert again.json()["code"] == "idempotency-in-progress"
    assert len(await api.all("customers")) == 1
    with api.later(hours=25):
        await api.post("/v1/customers", {"name": "A"}, headers=KEY, expect=201)


async def test_a_request_that_lost_its_lease_changes_nothing_any_more(api, monkeypatch):
    from postern_common import outbox

    append = outbox.append

    async def slow(*arguments, **options):
        await api.mongo.db["idempotency"].update_one({}, {"$set": {"claim": "evt_of_another"}})
        return await append(*arguments, **options)

    monkeypatch.setattr("postern_common.outbox.append", slow)
    await api.post("/v1/customers", {"name": "A"}, headers=KEY, expect=409)
    assert await api.all("customers") == []


async def test_rotating_keys_moves_what_is_sealed(api, place):
    first = (await api.post("/v1/me/tokens", {"name": "t"}, headers=KEY, expect=201)).json()
    both = KEYS + ",2:" + "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ="
    settings = api_settings(place, secret_keys=both)
    assert await rotate_keys(settings) == 1
    assert await rotate_keys(settings) == 0
    (record,) = await api.all("idempotency")
    assert SecretBox.from_text(both).version_of(record["answer"]) == 2
    async with running_api(place, secret_keys=both) as rotated:
        again = await rotated.post("/v1/me/tokens", {"name": "t"}, headers=KEY, expect=201)
        assert again.json() == first
