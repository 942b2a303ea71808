"""A hosted policy looked at from outside: real name server, the real policy server behind TLS, the verifier's loop."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
import trustme
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route

from postern_api.domains.mta_sts.serving import policy_app
from postern_api.domains.mta_sts.store import ServedPolicies
from postern_common.documents import Collections
from postern_common.mta_sts import WELL_KNOWN, policy_of
from postern_common.netguard import NetGuard
from postern_dns.adapters.https import Https, Request
from postern_dns.adapters.resolver import Limits, Resolver, configured_resolvers
from postern_dns.inspection import Inspector
from postern_dns.schedule import Schedule
from postern_dns.store import DomainStore
from tests.servers.https import serving, trusting
from tests.servers.policies import stored_policy
from tests.servers.published import authority, publish  # noqa: F401 - fixtures
from tests.servers.stored import stored  # noqa: F401 - fixture

pytestmark = pytest.mark.spec("R11")
LOOPBACK = NetGuard([ip_network("127.0.0.0/8")])
NAME = "sts.scratch.test"
HOST = f"mta-sts.{NAME}"


@pytest.fixture
def verifier(stored, named, authority):
    """Makes what one verifier process runs, fetching policies at a port."""

    def make(port, context=None, guard=LOOPBACK):
        servers = configured_resolvers([f"{named.host}:{named.port}"])
        resolver = Resolver(servers, LOOPBACK, port=named.port, limits=Limits(1.0, 5.0))
        https = Https(guard, port=port, seconds=3, context=context or trusting(authority))

        async def fetch(host, path, addresses):
            return await https.ask(Request("GET", host, path), addresses, largest=1000)

        inspector = Inspector(resolver, own_mx_hosts=["mx1.postern.test", "mx2.postern.test"], fetch=fetch)
        return Schedule(DomainStore(stored.mongo), inspector)

    return make


@pytest.fixture
async def domain(stored):
    """A verified domain with a policy, whose mail records are due."""
    now = await stored.mongo.now()
    return await stored.domain(
        NAME, state="verified", next_check_at=None, mail_dns_next_at=now, mta_sts=stored_policy("enforce")
    )


@pytest.fixture
async def published(publish, domain):
    """All that the owner has to publish."""
    policy = policy_of(domain["mta_sts"])
    await publish(f"_mta-sts.{NAME}", "TXT", policy.record)
    await publish(f"_smtp._tls.{NAME}", "TXT", f"v=TLSRPTv1; rua=mailto:tls@{NAME}")
    await publish(NAME, "MX", "10 mx1.postern.test.")
    await publish(HOST, "CNAME", "policy.demo.test.")
    await publish("policy.demo.test", "A", "127.0.0.1")
    return policy


@asynccontextmanager
async def policy_server(stored, authority, folder, app=None, name=HOST):
    application = app or policy_app(ServedPolicies(stored.mongo), kept_seconds=0)
    async with serving(application, authority.issue_cert(name), folder) as port:
        yield port


async def looked(schedule, stored, domain):
    """What the look that is due finds."""
    await schedule.claim_due()
    while tasks := schedule._tasks:
        await asyncio.wait(set(tasks))
    return (await stored.get(Collections.DOMAINS, domain["_id"]))["mta_sts"]["check"]


def answering(response):
    async def answer(_request):
        return response

    return Starlette(routes=[Route(WELL_KNOWN, answer)])


async def test_a_policy_that_is_published_and_served_is_ok_and_told_once(
    stored, verifier, domain, published, authority, tmp_path
):
    async with policy_server(stored, authority, tmp_path) as port:
        schedule = verifier(port)
        check = await looked(schedule, stored, domain)
        assert {part: check[part]["state"] for part in ("record", "host", "policy", "mx", "reports")} == dict.fromkeys(
            ("record", "host", "policy", "mx", "reports"), "ok"
        )
        assert (check["state"], check["policy_id"]) == ("ok", published.id)
        assert check["host"]["found"] == ["127.0.0.1"]
        assert check["policy"]["found"][:2] == ["version: STSv1", "mode: enforce"]
        await stored.set(Collections.DOMAINS, domain["_id"], mail_dns_next_at=await stored.mongo.now())
        again = await looked(schedule, stored, domain)
        assert again["at"] > check["at"]
    told = await stored.all(Collections.OUTBOX, name="SetupStateChanged")
    data = [one["envelope"]["data"] for one in told]
    assert [(one["step"], one["state"]) for one in data if one["step"] == "mta-sts"] == [("mta-sts", "ok")]
    found = await stored.get(Collections.DOMAINS, domain["_id"])
    assert found["version"] == domain["version"]
    assert found["mail_dns_next_at"] > await stored.mongo.now()


async def test_before_anything_is_published_each_part_says_what_is_missing(stored, verifier, domain):
    check = await looked(verifier(9), stored, domain)
    assert (check["record"]["state"], check["host"]["state"], check["policy"]["state"]) == ("fail", "fail", "fail")
    assert policy_of(domain["mta_sts"]).record in check["record"]["explanation"]
    assert check["reports"]["state"] == "warn"


async def test_a_live_mail_server_that_an_enforced_policy_leaves_out_is_an_alarm(
    stored, verifier, domain, published, publish, authority, tmp_path
):
    await publish(NAME, "MX", "10 mx1.postern.test.", "20 mail.elsewhere.test.")
    async with policy_server(stored, authority, tmp_path) as port:
        check = await looked(verifier(port), stored, domain)
    assert (check["state"], check["mx"]["state"]) == ("fail", "fail")
    assert "mail.elsewhere.test" in check["mx"]["explanation"]


@pytest.mark.parametrize(
    ("app", "word"),
    [
        (answering(PlainTextResponse("version: STSv1\r\n")), "another policy"),
        (answering(RedirectResponse("https://policy.demo.test/")), "redirects"),
        (answering(PlainTextResponse("x" * 2000)), "longer than 1000 octets"),
        (answering(PlainTextResponse("", status_code=404)), "status 404"),
    ],
)
async def test_what_senders_would_not_take_fails(stored, verifier, domain, published, authority, tmp_path, app, word):
    async with policy_server(stored, authority, tmp_path, app) as port:
        check = await looked(verifier(port), stored, domain)
    assert check["policy"]["state"] == "fail"
    assert word in check["policy"]["explanation"]


async def test_a_certificate_of_another_name_or_of_nobody_fails_with_its_reason(
    stored, verifier, domain, published, authority, tmp_path
):
    async with policy_server(stored, authority, tmp_path, name="policy.demo.test") as port:
        check = await looked(verifier(port), stored, domain)
        assert "certificate is not valid: Hostname mismatch" in check["policy"]["explanation"]
    await stored.set(Collections.DOMAINS, domain["_id"], mail_dns_next_at=await stored.mongo.now())
    async with policy_server(stored, authority, tmp_path) as port:
        check = await looked(verifier(port, trusting(trustme.CA())), stored, domain)
        assert "certificate is not valid" in check["policy"]["explanation"]


@pytest.mark.spec("R12")
async def test_nothing_inside_is_reached_by_a_name_of_the_domains_owner(
    stored, verifier, domain, published, authority, tmp_path
):
    async with policy_server(stored, authority, tmp_path) as port:
        check = await looked(verifier(port, guard=NetGuard()), stored, domain)
    assert check["policy"]["state"] == "fail"
    assert "not a public one" in check["policy"]["explanation"]


async def test_whoever_waits_for_a_look_comes_before_what_is_due_by_itself(stored, verifier):
    store = DomainStore(stored.mongo)
    now = await stored.mongo.now()
    verified = {"state": "verified", "next_check_at": None}
    due = [await stored.domain(f"d{n}.scratch.test", mail_dns_next_at=now, **verified) for n in range(3)]
    await stored.set(Collections.DOMAINS, due[2]["_id"], mail_requested_at=now)
    claims = [await store.claim_mail_look(now, verifier(9)._lease) for _ in range(4)]
    names = [claim and claim["name"] for claim in claims]
    assert names[0] == "d2.scratch.test"
    assert names[3] is None
