"""The test of a directory's settings and the look at its entries: questions that directory-sync answers."""

import asyncio
import json

import pytest

from postern_common.secrets import SecretBox
from tests.servers.api import KEYS, api, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.directory import CLIENT_SECRET, PASSWORD, answering, entra, ldap, set_up, settings

STEPS = [
    {"step": "name", "ok": True, "detail": "One address.", "milliseconds": 2},
    {"step": "bind", "ok": False, "detail": "The user or the password is wrong.", "milliseconds": 12},
]
FAILED = {"ok": False, "steps": STEPS, "found": None, "certificate": None, "warnings": []}
WORKED = {
    "ok": True,
    "steps": STEPS[:1],
    "found": {"users": 250, "groups": 20},
    "certificate": {"subject": "CN=dc1.acme.com"},
    "warnings": ["The certificate ends in 9 days."],
}
ANN = {"external_id": "42", "kind": "user", "name": "cn=ann", "address": "ann@acme.com", "aliases": ["a@acme.com"]}


def password_in(question, part="ldap", field="password"):
    """The secret as directory-sync opens it: sealed for the question alone."""
    sealed = question["settings"][field]
    return SecretBox.from_text(KEYS).open(sealed, f"directory_requests/{question['_id']}/{part}.{field}").decode()


@pytest.mark.spec("L1")
async def test_settings_are_tested_before_they_are_kept(api):
    customer = await api.customer()
    async with answering(api, lambda question: FAILED) as asked:
        shown = (await api.post(f"{customer}/directory/test", settings(), expect=200)).json()
    assert shown == FAILED
    (question,) = asked
    assert (question["kind"], question["provider"], question["query"]) == ("test", "ldap", {})
    assert question["settings"]["host"] == "127.0.0.9"
    assert password_in(question) == PASSWORD
    assert await api.all("directories") == []
    # Neither the question nor its secret stays.
    assert await api.all("directory_requests") == []


@pytest.mark.spec("L1", "E1")
async def test_stored_settings_are_tested_with_their_secret(api):
    customer = await api.customer()
    await set_up(api, customer)
    await api.put(f"{customer}/directory?confirm=true", settings("entra"), expect=200)
    async with answering(api, lambda question: WORKED) as asked:
        shown = (await api.post(f"{customer}/directory/test", expect=200)).json()
        silent = {name: value for name, value in ldap().items() if name != "password"}
        await api.post(f"{customer}/directory/test", {"provider": "ldap", "ldap": silent}, expect=200)
        await api.post(f"{customer}/directory/test", {"provider": "ldap"}, expect=200)
    assert shown == WORKED
    assert password_in(asked[0], "entra", "client_secret") == CLIENT_SECRET
    assert password_in(asked[1]) == password_in(asked[2]) == PASSWORD
    assert PASSWORD not in json.dumps(asked, default=str)


@pytest.mark.spec("L1", "R12")
async def test_a_test_sends_the_stored_password_nowhere_else(api):
    customer = await api.customer()
    await set_up(api, customer)
    silent = {name: value for name, value in ldap(host="127.0.0.66").items() if name != "password"}
    async with answering(api, lambda question: WORKED) as asked:
        refused = await api.post(f"{customer}/directory/test", {"provider": "ldap", "ldap": silent}, expect=422)
        assert refused.json()["errors"][0]["pointer"] == "/ldap/password"
        part = entra(client_secret=None)
        await api.post(f"{customer}/directory/test", {"provider": "entra", "entra": part}, expect=422)
        await api.post(f"{customer}/directory/test", {"provider": "entra"}, expect=422)
    assert asked == []


@pytest.mark.spec("L1")
async def test_without_settings_there_is_nothing_to_test(api):
    customer = await api.customer()
    tested = await api.post(f"{customer}/directory/test", expect=409)
    looked = await api.get(f"{customer}/directory/entries", expect=409)
    assert {tested.json()["code"], looked.json()["code"]} == {"directory-not-configured"}


@pytest.mark.spec("L1", "S14")
async def test_what_was_switched_off_is_not_asked_and_says_so(api):
    customer = await api.customer()
    path = f"{customer}/directory"
    await set_up(api, customer)
    await api.delete(path, expect=204)
    tested, looked = await api.post(f"{path}/test", expect=409), await api.get(f"{path}/entries", expect=409)
    assert {tested.json()["code"], looked.json()["code"]} == {"directory-off"}
    # Settings that are not switched on yet can be tried all the same.
    await api.put(path, settings(enabled=False), expect=200)
    async with answering(api, lambda question: WORKED):
        await api.post(f"{path}/test", expect=200)


@pytest.mark.spec("L1")
async def test_when_nobody_answers_the_caller_is_told_when_to_come_back(place):
    async with running_api(place, api_directory_wait_seconds=0.2) as api:
        customer = await api.customer()
        await set_up(api, customer)
        async with answering(api, lambda question: None) as asked:
            answer = await api.post(f"{customer}/directory/test", expect=503)
        assert answer.headers["Retry-After"] == "10"
        assert len(asked) == 1
        assert await api.all("directory_requests") == []


@pytest.mark.spec("L1")
async def test_a_few_questions_of_a_customer_wait_at_once(place):
    async with running_api(place, api_directory_wait_seconds=0.4, api_max_directory_questions=2) as api:
        one, two = await api.customer("One"), await api.customer("Two")
        await set_up(api, one)
        await set_up(api, two)
        asked = [api.post(f"{one}/directory/test"), api.get(f"{one}/directory/entries")]
        asked += [api.post(f"{one}/directory/test") for _ in range(2)]
        answers = await asyncio.gather(*asked, api.post(f"{two}/directory/test"))
        assert sorted(answer.status_code for answer in answers) == [429, 429, 503, 503, 503]
        assert answers[-1].status_code == 503
        assert not api.resources.questions


@pytest.mark.spec("S12")
async def test_entries_are_found_for_choosing_exceptions(api):
    customer = await api.customer()
    await set_up(api, customer)
    async with answering(api, lambda question: {"entries": [ANN], "truncated": True}) as asked:
        shown = (await api.get(f"{customer}/directory/entries?search=%20ann&kind=user&limit=5", expect=200)).json()
        await api.get(f"{customer}/directory/entries?kind=group", expect=200)
    assert shown == {"items": [ANN], "next_cursor": None, "truncated": True}
    assert [question["query"] for question in asked] == [
        {"search": "ann", "kind": "user", "limit": 5}, {"search": "", "kind": "group", "limit": 50},
    ]  # fmt: skip
    assert {question["kind"] for question in asked} == {"browse"}
    for query in ("kind=robot", "limit=0", "limit=201", "search=", "page=2"):
        await api.get(f"{customer}/directory/entries?{query}", expect=422)


@pytest.mark.spec("S12", "L1")
async def test_a_look_into_a_directory_that_cannot_be_read_tells_why(api):
    customer = await api.customer()
    await set_up(api, customer)
    async with answering(api, lambda question: FAILED | {"entries": [], "truncated": False}):
        refused = (await api.get(f"{customer}/directory/entries", expect=409)).json()
    assert (refused["code"], refused["steps"]) == ("directory-unreadable", STEPS)
    assert "password is wrong" in refused["detail"]
