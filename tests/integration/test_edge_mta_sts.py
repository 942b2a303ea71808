"""Mail to domains with MTA-STS: policies from a web server, mail servers with and without the right certificate
(RFC 8461).
"""

import secrets
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from postern_common.documents import Collections
from tests.servers.authority import authority, serving  # noqa: F401
from tests.servers.edge_inside import InsideEdge
from tests.servers.notices import results, sent, site  # noqa: F401
from tests.servers.policy_site import Answer, PolicySite, policy
from tests.servers.smtp_fake import FakeHop
from tests.servers.waiting import eventually_async


@pytest.fixture
async def policies(authority):
    site = await PolicySite(authority).start()
    yield site
    await site.stop()


@pytest.fixture
async def exchanger():
    hop = await FakeHop().start()
    yield hop
    await hop.stop()


@pytest.fixture
async def edge(mongo_uri, database, vhost, named, policies, site, exchanger):
    inside = make_edge(mongo_uri, database, vhost, named, policies, exchanger)
    await inside.seed(site)
    await inside.start()
    yield inside
    await inside.close()


def make_edge(mongo_uri, database, vhost, named, policies, exchanger, **settings):
    servers = f"{named.host}:{named.port}"
    return InsideEdge(
        mongo_uri,
        database,
        vhost,
        dns_servers=servers,
        edge_mx_port=exchanger.port,
        edge_sts_port=policies.port,
        **settings,
    )


@pytest.fixture
def domain(named):
    """A domain with one exchanger and a record that announces a policy."""
    name = f"{secrets.token_hex(4)}.scratch.test"
    named.update(f"mx.{name}", "A", ["127.0.0.1"])
    named.update(name, "MX", [f"10 mx.{name}."])
    named.update(f"mta-sts.{name}", "A", ["127.0.0.1"])
    named.update(f"_mta-sts.{name}", "TXT", ["v=STSv1; id=1;"])
    return name


@pytest.mark.spec("R11", "V4")
async def test_mail_goes_to_a_server_that_the_policy_names_and_an_authority_vouches_for(
    edge, policies, exchanger, domain, authority
):
    policies.answers[f"mta-sts.{domain}"] = policy(f"*.{domain}")
    exchanger.tls = serving(authority, f"mx.{domain}")
    _, step = await sent(edge, domain, "delivered")
    assert exchanger.messages[0].secure
    assert ", mta-sts): 250" in step
    assert await results(edge, domain) == {"sts": (1, {})}
    [kept] = await edge.raw(Collections.STS_POLICIES).find({"_id": domain}).to_list(None)
    assert (kept["mode"], kept["mx"], kept["policy_id"]) == ("enforce", [f"*.{domain}"], "1")
    assert kept["expires_at"] - kept["fetched_at"] == timedelta(seconds=604800)


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "is_known,name,expired,reason,result",
    [
        (True, "other.test", False, "Hostname mismatch", ("certificate-host-mismatch", "")),
        (True, None, True, "certificate has expired", ("certificate-expired", "")),
        (False, None, False, "self-signed certificate", ("certificate-not-trusted", "openssl-19")),
    ],
)
async def test_enforced_mail_waits_where_the_certificate_is_not_good(
    edge, policies, exchanger, domain, authority, is_known, name, expired, reason, result
):
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}")
    ends = datetime.now(UTC) - timedelta(days=1) if expired else None
    exchanger.tls = serving(authority if is_known else trustme.CA(), name or f"mx.{domain}", ends)
    reply, _ = await sent(edge, domain, "deferred")
    assert reply.startswith("MTA-STS: the mail server's certificate is not valid: ")
    assert reason in reply
    assert exchanger.count("MAIL") == 0
    assert await results(edge, domain) == {"sts": (0, {result: 1})}


@pytest.mark.spec("R11")
async def test_enforced_mail_waits_where_the_server_offers_no_tls(edge, policies, exchanger, domain):
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}")
    reply, _ = await sent(edge, domain, "deferred")
    assert reply == "MTA-STS: the mail server offers no TLS, which is required"
    assert exchanger.count("MAIL") == 0
    assert await results(edge, domain) == {"sts": (0, {("starttls-not-supported", ""): 1})}


@pytest.mark.spec("R11")
async def test_enforced_mail_waits_where_tls_stalls(edge, policies, exchanger, domain):
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}")
    exchanger.stall_after_starttls = True
    reply, _ = await sent(edge, domain, "deferred")
    assert reply == "MTA-STS: timed out"
    assert await results(edge, domain) == {"sts": (0, {("validation-failure", "tls-timed-out"): 1})}


@pytest.mark.spec("R11")
async def test_a_server_that_an_enforced_policy_does_not_name_is_passed_over(
    edge, policies, exchanger, domain, authority, named
):
    policies.answers[f"mta-sts.{domain}"] = policy(f"good.{domain}")
    exchanger.tls = serving(authority, f"good.{domain}")
    reply, _ = await sent(edge, domain, "deferred")
    assert reply == f"MTA-STS: the policy of {domain} does not name mx.{domain}"
    assert exchanger.connections == 0
    assert await results(edge, domain) == {"sts": (0, {("validation-failure", "mx-not-in-policy"): 1})}
    other = f"{secrets.token_hex(4)}.scratch.test"
    policies.answers[f"mta-sts.{other}"] = policy(f"good.{domain}")
    named.update(f"good.{domain}", "A", ["127.0.0.1"])
    named.update(f"mta-sts.{other}", "A", ["127.0.0.1"])
    named.update(f"_mta-sts.{other}", "TXT", ["v=STSv1; id=1;"])
    named.update(other, "MX", [f"10 mx.{domain}.", f"20 good.{domain}."])
    await sent(edge, other, "delivered")
    assert exchanger.messages[0].secure


@pytest.mark.spec("R11")
async def test_a_policy_in_testing_is_tried_and_counted_and_holds_up_nothing(edge, policies, exchanger, domain):
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}", mode="testing")
    exchanger.tls = serving(trustme.CA(), "other.test")
    _, step = await sent(edge, domain, "delivered")
    assert exchanger.messages[0].secure
    assert ", opportunistic): 250" in step
    assert await results(edge, domain) == {"sts": (0, {("certificate-not-trusted", "openssl-19"): 1})}
    await edge.edge.delivery._servers.close()  # so that a connection has to be opened
    tried = exchanger.connections
    await sent(edge, domain, "delivered")
    assert exchanger.connections == tried + 1  # what failed is not tried again for a while


@pytest.mark.spec("R11")
async def test_a_policy_in_testing_that_is_met_counts_as_such(edge, policies, exchanger, domain, authority):
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}", mode="testing")
    exchanger.tls = serving(authority, f"mx.{domain}")
    _, step = await sent(edge, domain, "delivered")
    assert ", mta-sts): 250" in step
    assert await results(edge, domain) == {"sts": (1, {})}


@pytest.mark.spec("R11")
async def test_in_testing_a_server_that_is_not_named_or_offers_no_tls_takes_the_mail(edge, policies, exchanger, domain):
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}", mode="testing")
    _, step = await sent(edge, domain, "delivered")
    assert "(in clear): 250" in step
    assert await results(edge, domain) == {"sts": (0, {("starttls-not-supported", ""): 1})}


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "answer,result",
    [
        (Answer("none", 404), ("sts-policy-fetch-error", "http-404")),
        (Answer("", 301, more="Location: https://mta-sts.example/\r\n"), ("sts-policy-fetch-error", "http-301")),
        (Answer(policy("*.test").body, kind="text/html"), ("sts-policy-fetch-error", "not-text-plain")),
        (Answer(policy("*.test").body + "x: y\r\n" * 20_000), ("sts-policy-fetch-error", "too-large")),
        (Answer(policy("*.test").body, trusted_name="mta-sts.other.test"), ("sts-webpki-invalid", "openssl-62")),
        (Answer("version: STSv1\r\n"), ("sts-policy-invalid", "the mode is none of enforce, testing, none")),
    ],
)
async def test_a_policy_that_was_never_to_be_had_is_none_and_is_reported(
    edge, policies, exchanger, domain, answer, result
):
    policies.answers[f"mta-sts.{domain}"] = answer
    exchanger.tls = serving(trustme.CA(), "other.test")
    _, step = await sent(edge, domain, "delivered")
    assert ", opportunistic): 250" in step
    assert await results(edge, domain) == {"no-policy-found": (1, {}), "sts": (0, {result: 1})}


@pytest.mark.spec("R11")
async def test_a_policy_server_that_falls_silent_is_given_up(edge, policies, exchanger, domain, monkeypatch):
    monkeypatch.setattr("postern_edge.adapters.policy_files.LONGEST_SECONDS", 0.5)
    policies.answers[f"mta-sts.{domain}"] = Answer("", is_silent=True)
    await sent(edge, domain, "delivered")
    assert (await results(edge, domain))["sts"] == (0, {("sts-policy-fetch-error", "timed-out"): 1})


@pytest.mark.spec("R11")
async def test_a_kept_policy_is_enforced_by_an_edge_that_finds_neither_record_nor_server(
    mongo_uri, database, vhost, named, policies, site, exchanger, edge, domain, authority
):
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}")
    exchanger.tls = serving(authority, f"mx.{domain}")
    await sent(edge, domain, "delivered")
    await edge.kill()
    named.update(f"_mta-sts.{domain}", "TXT", [])
    policies.answers.clear()
    exchanger.tls = serving(trustme.CA(), f"mx.{domain}")
    another = make_edge(mongo_uri, database, vhost, named, policies, exchanger)
    await another.start()
    reply, _ = await sent(another, domain, "deferred")
    assert reply.startswith("MTA-STS: the mail server's certificate is not valid")
    assert policies.asked == [f"mta-sts.{domain}"]
    await another.close()


@pytest.mark.spec("R11", "R12")
async def test_a_policy_server_inside_is_not_asked(
    mongo_uri, database, vhost, named, policies, site, exchanger, domain
):
    named.update(f"mta-sts.{domain}", "A", ["127.0.0.7"])
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}")
    edge = make_edge(mongo_uri, database, vhost, named, policies, exchanger, allow_networks="127.0.0.1/32")
    await edge.seed(site)
    await edge.start()
    await sent(edge, domain, "delivered")
    assert policies.asked == []
    assert (await results(edge, domain))["sts"] == (0, {("sts-policy-fetch-error", "address-not-allowed"): 1})
    await edge.close()


@pytest.mark.spec("R11")
async def test_a_domain_whose_certificate_is_bad_does_not_shut_out_others_with_the_same_server(
    edge, policies, exchanger, domain, named
):
    other = f"{secrets.token_hex(4)}.scratch.test"
    named.update(other, "MX", [f"10 mx.{domain}."])
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}")
    exchanger.tls = serving(trustme.CA(), f"mx.{domain}")
    for _ in range(4):
        await sent(edge, domain, "deferred")
    await sent(edge, other, "delivered")


@pytest.mark.spec("R11")
async def test_a_connection_that_only_encrypts_is_not_used_for_mail_that_wants_more(
    edge, policies, exchanger, domain, named
):
    other = f"{secrets.token_hex(4)}.scratch.test"
    named.update(other, "MX", [f"10 mx.{domain}."])
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}")
    exchanger.tls = serving(trustme.CA(), f"mx.{domain}")
    await sent(edge, other, "delivered")
    reply, _ = await sent(edge, domain, "deferred")
    assert reply.startswith("MTA-STS: ")
    assert len(exchanger.messages) == 1


@pytest.mark.spec("R11")
async def test_a_report_of_failures_goes_out_whatever_the_policy_says(edge, policies, exchanger, domain, named):
    policies.answers[f"mta-sts.{domain}"] = policy(f"mx.{domain}")
    await sent(edge, domain, "deferred")
    query = {"direction": "dsn", "recipients.address": f"bob@{domain}"}
    change = {"tls_waived": True, "recipients.0.next_attempt_at": None, "due_at": datetime(2026, 1, 1, tzinfo=UTC)}
    await edge.raw(Collections.MESSAGES).update_one(query, {"$set": change})

    async def is_there():
        return exchanger.messages

    await eventually_async(is_there)
