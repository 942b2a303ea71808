"""Domains over HTTP: adding, proving, restarting and removing them."""

import asyncio
import re

import pytest

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import api, place, prepared, running_api, verifier  # noqa: F401 - fixtures

CHECK = {"at": None, "outcome": "match", "reason": "verified", "found": [], "servers": [], "explanation": "Found."}


@pytest.mark.spec("D1")
async def test_adding_a_domain_gives_both_records_ready_to_paste(api):
    customer = await api.customer()
    answer = await api.post(f"{customer}/domains", {"name": "eng.acme.com"}, expect=201)
    domain = answer.json()
    assert answer.headers["Location"] == f"{customer}/domains/eng.acme.com"
    assert answer.headers["ETag"].startswith('"1.')
    assert domain["state"] == "pending"
    assert domain["detail"] is None
    apex, challenge = domain["verification"]["records"]
    assert domain["verification"]["record"] == apex
    assert re.fullmatch(r"postern-verification=[a-z2-7]{26}", apex["value"])
    assert (apex["host"], apex["type"]) == ("eng", "TXT")
    assert apex["zone_line"] == f'eng.acme.com. 300 IN TXT "{apex["value"]}"'
    assert challenge["host"] == "_postern-challenge.eng"
    assert challenge["value"] == apex["value"]
    assert domain["verification"]["method"] == "dns_txt"
    assert domain["verification"]["last_check"] is None
    event = (await api.events("DomainAdded"))[0]
    assert event["data"]["name"] == "eng.acme.com"
    assert event["subject"] == domain["id"]


@pytest.mark.spec("D4")
async def test_case_35_adding_again_names_the_first_with_the_same_code(api):
    customer = await api.customer()
    first = (await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)).json()
    problem = (await api.post(f"{customer}/domains", {"name": "ACME.com."}, expect=409)).json()
    assert problem["code"] == "domain-exists"
    assert problem["existing"] == first
    assert problem["errors"][0]["pointer"] == "/name"


@pytest.mark.spec("D5")
async def test_case_32_unicode_and_punycode_forms_are_one_domain(api):
    customer = await api.customer()
    first = (await api.post(f"{customer}/domains", {"name": "bücher.test"}, expect=201)).json()
    assert (first["name"], first["unicode_name"]) == ("xn--bcher-kva.test", "bücher.test")
    for spelling in ("xn--bcher-kva.test", "BÜCHER.test.", "XN--BCHER-KVA.TEST"):
        await api.post(f"{customer}/domains", {"name": spelling}, expect=409)
        assert (await api.get(f"{customer}/domains/{spelling}", expect=200)).json()["name"] == "xn--bcher-kva.test"


@pytest.mark.spec("D5")
async def test_case_33_sharp_s_is_kept_and_disallowed_names_are_refused(api):
    customer = await api.customer()
    sharp = (await api.post(f"{customer}/domains", {"name": "faß.test"}, expect=201)).json()
    assert sharp["name"] == "xn--fa-hia.test"
    await api.post(f"{customer}/domains", {"name": "fass.test"}, expect=201)
    refused = (await api.post(f"{customer}/domains", {"name": "xn--sw8hj0a.ws"}, expect=422)).json()
    assert refused["errors"][0]["pointer"] == "/name"


@pytest.mark.spec("D4")
async def test_case_34_a_claim_blocks_nobody_and_the_second_proof_never_wins(api):
    one, two = await api.customer("One"), await api.customer("Two")
    await api.post(f"{one}/domains", {"name": "acme.com"}, expect=201)
    await api.verified(two, "acme.com")
    domains = api.mongo.collection(Collections.DOMAINS, PLATFORM)
    with pytest.raises(Exception, match="E11000"):
        await domains.update_one({"name": "acme.com", "state": "pending"}, {"$set": {"state": "verified"}})
    three = await api.customer("Three")
    claim = (await api.post(f"{three}/domains", {"name": "acme.com"}, expect=201)).json()
    assert (claim["state"], claim["detail"]) == ("pending", "verified_elsewhere")
    holder = (await api.get(f"{two}/domains/acme.com", expect=200)).json()
    assert holder["verification"]["record"]["value"] != claim["verification"]["record"]["value"]


@pytest.mark.spec("D1")
async def test_case_36_the_caller_cannot_choose_the_record(api):
    customer = await api.customer()
    for extra in ({"code": "v=spf1 -all"}, {"host": "x"}, {"verification": {"record": {"value": "v=spf1 -all"}}}):
        problem = (await api.post(f"{customer}/domains", {"name": "acme.com", **extra}, expect=422)).json()
        assert problem["errors"][0]["pointer"] == "/" + next(iter(extra))
    assert (await api.get(f"{customer}/domains", expect=200)).json() == {"items": [], "next_cursor": None}


@pytest.mark.spec("D4")
async def test_case_70_fifty_parallel_adds_give_one_domain_and_no_failure(api):
    customer = await api.customer()
    answers = await asyncio.gather(*(api.post(f"{customer}/domains", {"name": "acme.com"}) for _ in range(50)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] + [409] * 49
    assert len(await api.all(Collections.DOMAINS)) == 1
    assert len(await api.events("DomainAdded")) == 1


@pytest.mark.spec("D2")
async def test_verify_asks_the_verifier_and_answers_with_what_it_found(api):
    customer = await api.customer()
    await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    async with verifier(api, lambda domain: {}):
        domain = (await api.post(f"{customer}/domains/acme.com/verify", expect=200)).json()
        first = domain["verification"]["last_check"]
        assert (first["outcome"], first["reason"]) == ("absent", "no_txt")
        assert first["servers"][0]["name"] == "ns1.example.com"
        again = (await api.post(f"{customer}/domains/acme.com/verify", expect=200)).json()
        assert again["verification"]["last_check"]["at"] > first["at"]


@pytest.mark.spec("D2")
async def test_verify_of_a_verified_domain_keeps_it_verified(api):
    customer = await api.customer()
    await api.verified(customer, "acme.com")
    async with verifier(api, lambda domain: {}):
        domain = (await api.post(f"{customer}/domains/acme.com/verify", expect=200)).json()
    assert domain["state"] == "verified"
    assert domain["verification"]["last_check"]["outcome"] == "absent"


@pytest.mark.spec("D2")
async def test_verify_without_a_verifier_is_temporary(place):
    async with running_api(place, api_verify_wait_seconds=0.3) as api:
        customer = await api.customer()
        await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
        answer = await api.post(f"{customer}/domains/acme.com/verify", expect=503)
        assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.spec("D2")
@pytest.mark.parametrize(("reason", "state"), [("no_txt", "expired"), ("verified", "verified")])
async def test_verify_of_an_expired_domain_looks_afresh(api, reason, state):
    customer = await api.customer()
    await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    domains = api.mongo.collection(Collections.DOMAINS, PLATFORM)
    await domains.update_one({"name": "acme.com"}, {"$set": {"state": "expired", "next_check_at": None}})
    async with verifier(api, lambda domain: {"state": state, "next_check_at": None}):
        domain = (await api.post(f"{customer}/domains/acme.com/verify", expect=200)).json()
    assert domain["state"] == state
    assert domain["verification"]["last_check"] is not None


@pytest.mark.spec("D2")
async def test_the_tag_of_a_domain_moves_with_what_is_shown_and_conditions_only_with_its_version(api):
    customer = await api.customer()
    first = await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    async with verifier(api, lambda domain: {}):
        looked = await api.post(f"{customer}/domains/acme.com/verify", expect=200)
    assert looked.json() != first.json()
    assert looked.headers["ETag"] != first.headers["ETag"]
    assert (await api.get(f"{customer}/domains/acme.com")).headers["ETag"] == looked.headers["ETag"]
    await api.patch(f"{customer}/domains/acme.com", {"site_id": None}, tag=first.headers["ETag"], expect=200)
    await api.patch(f"{customer}/domains/acme.com", {"site_id": None}, tag=looked.headers["ETag"], expect=412)
    await api.delete(f"{customer}/domains/acme.com", tag=looked.headers["ETag"], expect=412)


@pytest.mark.spec("D3")
async def test_an_expired_domain_is_restarted_with_its_code(api):
    customer = await api.customer()
    first = (await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)).json()
    assert (await api.post(f"{customer}/domains/acme.com/restart", expect=409)).json()["code"] == "wrong-state"
    domains = api.mongo.collection(Collections.DOMAINS, PLATFORM)
    await domains.update_one({"name": "acme.com"}, {"$set": {"state": "expired", "next_check_at": None}})
    with api.later(hours=80):
        domain = (await api.post(f"{customer}/domains/acme.com/restart", expect=200)).json()
    assert domain["state"] == "pending"
    assert domain["verification"]["record"] == first["verification"]["record"]
    assert domain["verification"]["deadline"] > first["verification"]["deadline"]
    assert len(await api.events("DomainAdded")) == 2


@pytest.mark.spec("R1")
async def test_a_domain_names_its_site(api):
    customer = await api.customer()
    await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    site = (await api.post(f"{customer}/sites", {"servers": [{"host": "127.0.0.9"}]}, expect=201)).json()
    unknown = await api.patch(f"{customer}/domains/acme.com", {"site_id": "sit_x"}, expect=422)
    assert unknown.json()["errors"][0]["pointer"] == "/site_id"
    await api.call("PATCH", f"{customer}/domains/acme.com", {"site_id": site["id"]}, expect=428)
    await api.patch(f"{customer}/domains/acme.com", {"site_id": site["id"]}, tag='"9"', expect=412)
    changed = await api.patch(f"{customer}/domains/acme.com", {"site_id": site["id"]}, tag='"1"', expect=200)
    assert changed.json()["site_id"] == site["id"]
    assert changed.headers["ETag"].startswith('"2.')
    used = await api.delete(f"{customer}/sites/{site['id']}", expect=409)
    assert used.json()["code"] == "site-in-use"
    await api.patch(f"{customer}/domains/acme.com", {"site_id": None}, expect=200)
    await api.delete(f"{customer}/sites/{site['id']}", expect=204)


async def test_mail_records_are_shown_as_the_verifier_left_them(api):
    customer = await api.customer()
    await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    assert (await api.get(f"{customer}/domains/acme.com/mx", expect=200)).json()["state"] == "unknown"
    stored = {"state": "warn", "found": ["10 mx.old.example"], "explanation": "An old one.", "checked_at": None}
    domains = api.mongo.collection(Collections.DOMAINS, PLATFORM)
    await domains.update_one({"name": "acme.com"}, {"$set": {"spf": stored}})
    assert (await api.get(f"{customer}/domains/acme.com/spf", expect=200)).json() == stored


@pytest.mark.spec("D8")
async def test_removing_a_domain_removes_its_users_and_takes_off_aliases(api):
    customer = await api.customer()
    first = await api.verified(customer, "acme.com")
    await api.verified(customer, "other.com")
    gone = (await api.post(f"{customer}/users", _user("ann@acme.com", "ann@other.com"), expect=201)).json()
    kept = (await api.post(f"{customer}/users", _user("bob@other.com", "bob@acme.com"), expect=201)).json()
    await api.call("DELETE", f"{customer}/domains/acme.com", expect=428)
    await api.delete(f"{customer}/domains/acme.com", tag='"7"', expect=412)
    await api.delete(f"{customer}/domains/acme.com", expect=204)
    await api.get(f"{customer}/domains/acme.com", expect=404)
    await api.get(f"{customer}/users/{gone['id']}", expect=404)
    assert (await api.get(f"{customer}/users/{kept['id']}", expect=200)).json()["aliases"] == []
    assert [address["key"] for address in await api.all(Collections.ADDRESSES)] == ["bob@other.com"]
    removed = (await api.events("DomainRemoved"))[0]["data"]
    assert (removed["removed_users"], removed["removed_aliases"]) == (1, 1)
    assert (await api.events("UserDeleted"))[0]["subject"] == gone["id"]
    assert (await api.all(Collections.DELETED_USERS))[0]["email_key"] == "ann@acme.com"
    again = (await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)).json()
    assert again["state"] == "pending"
    assert again["verification"]["record"]["value"] != first["verification"]["record"]["value"]


@pytest.mark.spec("D8")
async def test_removing_a_domain_of_many_users_goes_chunk_by_chunk(api, monkeypatch):
    monkeypatch.setattr("postern_api.domains.removal.CHUNK", 3)
    customer = await api.customer()
    await api.verified(customer, "acme.com")
    await api.verified(customer, "other.com")
    for number in range(7):
        await api.post(f"{customer}/users", _user(f"u{number}@acme.com"), expect=201)
        await api.post(f"{customer}/users", _user(f"u{number}@other.com", f"a{number}@acme.com"), expect=201)
    await api.delete(f"{customer}/domains/acme.com", expect=204)
    removed = (await api.events("DomainRemoved"))[0]["data"]
    assert (removed["removed_users"], removed["removed_aliases"]) == (7, 7)
    assert len(await api.all(Collections.USERS)) == 7
    assert len(await api.all(Collections.ADDRESSES)) == 7


async def test_domains_are_listed_page_by_page_and_filtered(api):
    customer = await api.customer()
    for name in ("c.com", "a.com", "b.com"):
        await api.post(f"{customer}/domains", {"name": name}, expect=201)
    await api.verified(customer, "d.com")
    names, cursor = [], ""
    while cursor is not None:
        page = (await api.get(f"{customer}/domains?limit=1&sort=-name{cursor}", expect=200)).json()
        names += [domain["name"] for domain in page["items"]]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    assert names == ["d.com", "c.com", "b.com", "a.com"]
    pending = (await api.get(f"{customer}/domains?state=pending&sort=created_at", expect=200)).json()
    assert [domain["name"] for domain in pending["items"]] == ["c.com", "a.com", "b.com"]
    await api.get(f"{customer}/domains?sort=code", expect=422)
    await api.get(f"{customer}/domains?stat=pending", expect=422)


def _user(email, *aliases):
    return {"email": email, "first_name": "Ann", "last_name": "Lee", "aliases": list(aliases)}
