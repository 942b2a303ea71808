"""MTA-STS policies over HTTP: set up, enforced, looked at, ended; and as senders fetch them (SPEC R11)."""

from datetime import datetime, timedelta

import httpx2
import pytest

from postern_api.domains.mta_sts.serving import policy_app
from postern_api.domains.mta_sts.store import ServedPolicies
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from postern_common.mta_sts import record_id
from tests.servers.api import place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.policies import OFFERED, OURS, looking, put_policy

pytestmark = pytest.mark.spec("R11")


@pytest.fixture
async def api(place):
    async with running_api(place, api_verify_wait_seconds=2, **OFFERED) as served:
        yield served


@pytest.fixture
async def domain(api):
    """The path of a verified domain."""
    customer = await api.customer()
    await api.verified(customer, "acme.com")
    return f"{customer}/domains/acme.com"


@pytest.fixture
async def senders(api):
    """A client as senders are, asking the policy server."""
    transport = httpx2.ASGITransport(app=policy_app(ServedPolicies(api.mongo), kept_seconds=0))
    async with httpx2.AsyncClient(transport=transport, base_url="http://policy.postern.test") as client:
        yield client


async def served(senders, name="acme.com"):
    return await senders.get("/.well-known/mta-sts.txt", headers={"Host": f"mta-sts.{name}"})


async def told(api):
    """What was told of policies."""
    events = [one["data"] for one in await api.events("SettingsChanged")]
    return [one["action"] for one in events if one["resource"] == "mta_sts_policy"]


def seconds_until(text, now):
    return (datetime.fromisoformat(text) - now).total_seconds()


async def test_the_first_policy_tells_what_to_publish_and_is_served_at_once(api, domain, senders):
    await api.get(f"{domain}/mta-sts", expect=404)
    assert (await served(senders)).status_code == 404
    answer = await api.call(
        "PUT", f"{domain}/mta-sts", {"mode": "testing", "extra_mx": ["*.Cloud.example."]}, expect=201
    )
    assert answer.headers["Location"] == f"{domain}/mta-sts"
    policy = answer.json()
    assert policy["mx"] == ["mx1.postern.test", "mx2.postern.test", "*.cloud.example"]
    assert (policy["max_age"], policy["check"]) == (604_800, None)
    assert [(one["purpose"], one["type"], one["host"], one["zone_line"]) for one in policy["records"]] == [
        ("policy_id", "TXT", "_mta-sts",
         f'_mta-sts.acme.com. 300 IN TXT "v=STSv1; id={policy["policy_id"]};"'),
        ("policy_host", "CNAME", "mta-sts", "mta-sts.acme.com. 300 IN CNAME policy.postern.test."),
        ("reports", "TXT", "_smtp._tls",
         '_smtp._tls.acme.com. 300 IN TXT "v=TLSRPTv1; rua=mailto:postmaster@acme.com"'),
    ]  # fmt: skip
    found = await served(senders)
    assert (found.status_code, found.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert found.headers["cache-control"] == "no-store"
    assert found.text == policy["policy"]
    assert found.text.split("\r\n") == [
        "version: STSv1", "mode: testing", "mx: mx1.postern.test", "mx: mx2.postern.test", "mx: *.cloud.example",
        "max_age: 604800", "",
    ]  # fmt: skip
    assert await told(api) == ["created"]


async def test_a_change_has_a_new_id_and_the_same_policy_again_changes_nothing(api, domain):
    first = await api.call("PUT", f"{domain}/mta-sts", {"mode": "testing"}, expect=201)
    again = await api.put(f"{domain}/mta-sts", {"mode": "testing"}, tag=first.headers["ETag"], expect=200)
    assert again.json() == first.json()
    changed = await api.put(
        f"{domain}/mta-sts", {"mode": "testing", "max_age": 90_000}, tag=first.headers["ETag"], expect=200
    )
    assert changed.json()["policy_id"] != first.json()["policy_id"]
    assert record_id(changed.json()["records"][0]["value"]) == changed.json()["policy_id"]
    await api.put(f"{domain}/mta-sts", {"mode": "testing"}, tag=first.headers["ETag"], expect=412)
    await api.call("PUT", f"{domain}/mta-sts", {"mode": "testing"}, expect=428)
    assert await told(api) == ["created", "updated"]


async def test_the_verifier_is_asked_to_look_after_a_change(api, domain):
    await api.call("PUT", f"{domain}/mta-sts", {"mode": "testing"}, expect=201)
    [stored] = await api.all(Collections.DOMAINS)
    assert stored["mail_dns_next_at"] is not None
    assert stored["version"] == 1  # a condition on the domain itself does not fail for it


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"mode": "strict"}, "/mode"),
        ({}, "/mode"),
        ({"mode": "testing", "max_age": 86_399}, "/max_age"),
        ({"mode": "testing", "max_age": 31_557_601}, "/max_age"),
        ({"mode": "testing", "extra_mx": ["mx.acme.com", "*"]}, "/extra_mx/1"),
        ({"mode": "testing", "extra_mx": ["192.0.2.1"]}, "/extra_mx/0"),
        ({"mode": "testing", "extra_mx": ["mx.acme.com"] * 21}, "/extra_mx"),
        ({"mode": "testing", "report_to": ["mailto:a@acme.com", "tls@acme.com"]}, "/report_to/1"),
        ({"mode": "testing", "report_to": ["http://acme.com/"]}, "/report_to/0"),
        ({"mode": "none", "max_age": 604_800}, ""),
        ({"mode": "testing", "mx": ["mx.acme.com"]}, "/mx"),
    ],
)
async def test_what_is_wrong_is_told_at_its_field(api, domain, body, pointer):
    problem = (await api.call("PUT", f"{domain}/mta-sts", body, expect=422)).json()
    assert problem["errors"][0]["pointer"] == pointer
    await api.get(f"{domain}/mta-sts", expect=404)


async def test_a_domain_that_is_not_proven_gets_no_policy_and_none_is_served_for_it(api, senders):
    customer = await api.customer()
    await api.post(f"{customer}/domains", {"name": "acme.com"}, expect=201)
    refused = await api.call("PUT", f"{customer}/domains/acme.com/mta-sts", {"mode": "testing"}, expect=409)
    assert refused.json()["code"] == "domain-not-verified"
    await put_policy(api, "acme.com")
    assert (await served(senders)).status_code == 404


async def test_an_installation_that_offers_none_says_so(place):
    async with running_api(place) as api:
        customer = await api.customer()
        await api.verified(customer, "acme.com")
        refused = await api.call("PUT", f"{customer}/domains/acme.com/mta-sts", {"mode": "testing"}, expect=409)
        assert refused.json()["code"] == "mta-sts-not-offered"


async def test_a_policy_that_leaves_out_a_live_mail_server_is_not_enforced(api, domain):
    records = (*OURS, "30 mail.elsewhere.example")
    async with looking(api, lambda name: records) as looked:
        refused = (await api.call("PUT", f"{domain}/mta-sts", {"mode": "enforce"}, expect=409)).json()
        assert (refused["code"], refused["hosts"]) == ("mx-not-covered", ["mail.elsewhere.example"])
        assert "mail.elsewhere.example" in refused["detail"]
        await api.get(f"{domain}/mta-sts", expect=404)
        assert looked == ["acme.com"]
        await api.call("PUT", f"{domain}/mta-sts", {"mode": "testing"}, expect=201)
        body = {"mode": "enforce", "extra_mx": ["mail.elsewhere.example"]}
        enforced = await api.put(f"{domain}/mta-sts", body, expect=200)
    assert enforced.json()["mode"] == "enforce"


async def test_records_are_looked_at_again_before_a_policy_is_enforced(api, domain):
    """The daily look may be hours old: the owner has pointed MX elsewhere since."""
    domains = api.mongo.collection(Collections.DOMAINS, PLATFORM)
    old = {
        "state": "ok",
        "found": list(OURS),
        "explanation": "",
        "checked_at": await api.mongo.now() - timedelta(hours=20),
    }
    await domains.update_one({"name": "acme.com"}, {"$set": {"mx": old}})
    async with looking(api, lambda name: ("10 mx.new.example",)):
        refused = (await api.call("PUT", f"{domain}/mta-sts", {"mode": "enforce"}, expect=409)).json()
    assert refused["hosts"] == ["mx.new.example"]


async def test_nothing_is_enforced_while_nobody_can_tell_the_records(api, domain):
    async with looking(api, lambda name: None):
        refused = (await api.call("PUT", f"{domain}/mta-sts", {"mode": "enforce"}, expect=409)).json()
    assert refused["code"] == "mx-unknown"


async def test_without_a_verifier_enforcing_is_to_be_tried_again(api, domain):
    answer = await api.call("PUT", f"{domain}/mta-sts", {"mode": "enforce"}, expect=503)
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_policy_ends_by_mode_none_and_goes_when_nobody_holds_an_earlier_one(api, domain, senders):
    """RFC 8461 8.3."""
    body = {"mode": "testing", "max_age": 1_000_000}
    await api.call("PUT", f"{domain}/mta-sts", body, expect=201)
    refused = (await api.delete(f"{domain}/mta-sts", expect=409)).json()
    assert refused["code"] == "mta-sts-in-force"
    await api.put(f"{domain}/mta-sts", {"mode": "testing", "max_age": 100_000}, expect=200)
    now = await api.mongo.now()
    ended = (await api.put(f"{domain}/mta-sts", {"mode": "none"}, expect=200)).json()
    assert (ended["mode"], ended["max_age"], ended["turning_off"]["possible"]) == ("none", 86_400, False)
    # Not the age of the last policy: the one before it lasts longer.
    assert abs(seconds_until(ended["turning_off"]["possible_at"], now) - 1_000_000) < 30
    assert "mode: none" in (await served(senders)).text
    refused = (await api.delete(f"{domain}/mta-sts", expect=409)).json()
    assert abs(seconds_until(refused["possible_at"], now) - 1_000_000) < 30
    with api.later(seconds=1_000_100):
        shown = (await api.get(f"{domain}/mta-sts", expect=200)).json()
        assert shown["turning_off"]["possible"] is True
        assert (await served(senders)).status_code == 200
        await api.delete(f"{domain}/mta-sts", expect=204)
        await api.get(f"{domain}/mta-sts", expect=404)
    assert (await served(senders)).status_code == 404
    assert await told(api) == ["created", "updated", "updated", "deleted"]


async def test_a_policy_taken_up_again_is_remembered_by_those_who_held_it_before(api, domain):
    await api.call("PUT", f"{domain}/mta-sts", {"mode": "testing", "max_age": 31_557_600}, expect=201)
    await api.put(f"{domain}/mta-sts", {"mode": "none"}, expect=200)
    await api.put(f"{domain}/mta-sts", {"mode": "testing", "max_age": 86_400}, expect=200)
    now = await api.mongo.now()
    ended = (await api.put(f"{domain}/mta-sts", {"mode": "none"}, expect=200)).json()
    assert seconds_until(ended["turning_off"]["possible_at"], now) > 31_557_000


async def test_a_check_is_waited_for_and_shown(api, domain):
    await api.post(f"{domain}/mta-sts/check", expect=404)
    await put_policy(api, "acme.com")
    async with looking(api, lambda name: OURS) as looked:
        await api.post(f"{domain}/mta-sts/check", expect=200)
        assert looked == ["acme.com"]
    await api.post(f"{domain}/mta-sts/check", expect=503)


async def test_a_removed_domain_is_served_no_longer(api, domain, senders):
    await put_policy(api, "acme.com", "enforce")
    assert (await served(senders)).status_code == 200
    await api.delete(domain, expect=204)
    assert (await served(senders)).status_code == 404


async def test_nothing_but_policies_is_found_at_their_server_and_it_is_told_which_names_are_ours(api, domain, senders):
    await put_policy(api, "acme.com")
    for path in ("/", "/v1/customers", "/openapi.json", "/.well-known/other.txt"):
        assert (await senders.get(path, headers={"Host": "mta-sts.acme.com"})).status_code == 404
    assert (await senders.post("/.well-known/mta-sts.txt", headers={"Host": "mta-sts.acme.com"})).status_code == 405
    assert (await senders.get("/.well-known/mta-sts.txt")).status_code == 404
    assert (await senders.get("/ask", params={"domain": "mta-sts.acme.com"})).status_code == 200
    for name in ("acme.com", "mta-sts.other.com", "", "mta-sts."):
        assert (await senders.get("/ask", params={"domain": name})).status_code == 404
