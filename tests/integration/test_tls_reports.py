"""Reports about TLS go to the domains that ask for them: real database, name server, HTTPS, an edge (SPEC R11)."""

import asyncio
import email
import email.policy
import gzip
import json
import secrets
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from postern_common.documents import Collections
from postern_common.netguard import NetGuard
from postern_dns.adapters.https import Https
from postern_dns.adapters.resolver import Limits, Resolver, configured_resolvers
from postern_dns.reports.sending import LEASE, Planner, Sender
from postern_dns.reports.store import ReportStore
from postern_dns.rules.tls_report import Reporter
from postern_edge.rules.tls_policy import Reported, TlsFault
from postern_edge.rules.tls_tally import Tally
from postern_edge.tls_out.store import TlsResultStore
from tests.servers.edge_inside import InsideEdge
from tests.servers.https import serving, trusting
from tests.servers.published import authority, publish  # noqa: F401 - fixtures
from tests.servers.smtp_fake import FakeHop
from tests.servers.stored import move, stored  # noqa: F401 - fixtures
from tests.servers.waiting import eventually_async

pytestmark = pytest.mark.spec("R11")
LOOPBACK = NetGuard([ip_network("127.0.0.0/8")])
REPORTS, RESULTS = Collections.TLS_REPORTS, Collections.TLS_RESULTS
HOST = "reports.scratch.test"
HOUR = timedelta(hours=1)


class Receiver:
    """Takes reports by HTTPS and answers with `status`; `taken` are their bodies with the requests' headers."""

    def __init__(self):
        self.port = 0
        self.taken = []
        self.status = 200
        self.app = Starlette(routes=[Route("/{path:path}", self.take, methods=["POST"])])

    async def take(self, request):
        self.taken.append((request.url.path, dict(request.headers), await request.body()))
        return Response(status_code=self.status)

    def reports(self):
        return [json.loads(gzip.decompress(body)) for _, _, body in self.taken]


@pytest.fixture
async def receiver(authority, tmp_path, publish):
    await publish(HOST, "A", "127.0.0.1")
    found = Receiver()
    (tmp_path / "tls").mkdir()
    async with serving(found.app, authority.issue_cert(HOST), tmp_path / "tls") as port:
        found.port = port
        yield found


@pytest.fixture
def sender(stored, named, authority):
    """Makes what one process sends with."""

    def make(port=9, guard=LOOPBACK):
        servers = configured_resolvers([f"{named.host}:{named.port}"])
        resolver = Resolver(servers, LOOPBACK, port=named.port, limits=Limits(1.0, 5.0))
        https = Https(guard, port=port, seconds=3, context=trusting(authority))
        reporter = Reporter("Postern", "tls-reports@postern.scratch.test")
        return Sender(ReportStore(stored.mongo), resolver, https, reporter)

    return make


@pytest.fixture
async def over(stored, move):
    """Moves the time to three o'clock of a day of its own; the day before is to be reported."""
    now = await stored.mongo.now()
    start = now.replace(hour=3, minute=0, second=0) + timedelta(days=1)

    def to(after=timedelta()):
        move(start - now + after)

    to()
    return to


async def counted(stored, domain, day=None, **fields):
    """A result of yesterday about a domain."""
    day = day or ((await stored.mongo.now()).date() - timedelta(days=1)).isoformat()
    failure = {
        "result_type": "certificate-expired", "sending_mta_ip": "192.0.2.25", "receiving_ip": "192.0.2.7",
        "receiving_mx_hostname": f"mx.{domain}", "failure_reason_code": "", "count": 2,
    }  # fmt: skip
    document = {
        "_id": f"{day}|{domain}|sts|{secrets.token_hex(4)}", "day": day, "policy_domain": domain, "policy_type": "sts",
        "policy_key": "k", "policy_string": ["version: STSv1"], "mx_host": [f"mx.{domain}"], "successes": 7,
        "failures": {"f1": failure}, "expires_at": await stored.mongo.now() + timedelta(days=9), **fields,
    }  # fmt: skip
    await stored.put(RESULTS, document)


async def waiting(stored, domain, **fields):
    """A report of yesterday that is due, with its results."""
    await counted(stored, domain)
    now = await stored.mongo.now()
    day = (now.date() - timedelta(days=1)).isoformat()
    document = {
        "_id": f"{day}|{domain}", "day": day, "policy_domain": domain, "state": "waiting", "outcome": None,
        "due_at": now, "give_up_at": now + 24 * HOUR, "attempts": 0, "destinations": [], "lease_owner": None,
        "lease_until": None, "expires_at": now + timedelta(days=9), **fields,
    }  # fmt: skip
    return (await stored.put(REPORTS, document))["_id"]


async def asking_for(publish, domain, *uris):
    await publish(f"_smtp._tls.{domain}", "TXT", f"v=TLSRPTv1; rua={','.join(uris)}")


async def test_a_day_is_planned_once_for_each_domain_after_it_has_ended(stored, over):
    for number in range(3):
        await counted(stored, f"d{number}.scratch.test")
        await counted(stored, f"d{number}.scratch.test")
    await counted(stored, "today.scratch.test", day=(await stored.mongo.now()).date().isoformat())
    planners = [Planner(ReportStore(stored.mongo)) for _ in range(3)]
    over(-3 * HOUR + timedelta(minutes=5))
    await asyncio.gather(*(planner.plan() for planner in planners))
    assert await stored.all(REPORTS) == []
    over()
    await asyncio.gather(*(planner.plan() for planner in planners))
    found = await stored.all(REPORTS, state="waiting")
    assert sorted(one["policy_domain"] for one in found) == [f"d{number}.scratch.test" for number in range(3)]
    now = await stored.mongo.now()
    assert all(now - HOUR < one["due_at"] < now + 4 * HOUR for one in found)
    await counted(stored, "late.scratch.test")
    await planners[0].plan()
    assert len(await stored.all(REPORTS, state="waiting")) == 3


async def test_a_report_is_posted_where_the_domain_wants_it(stored, over, sender, receiver, publish):
    key = await waiting(stored, "acme.scratch.test")
    await asking_for(publish, "acme.scratch.test", f"https://{HOST}/tls/v1?key=a")
    await sender(receiver.port).send_due()
    [(path, headers, _)] = receiver.taken
    assert path == "/tls/v1"
    assert headers["content-type"] == "application/tlsrpt+gzip"
    assert headers["host"] == HOST
    [report] = receiver.reports()
    assert report["policies"][0]["summary"] == {
        "total-successful-session-count": 7, "total-failure-session-count": 2,
    }  # fmt: skip
    found = await stored.get(REPORTS, key)
    assert (found["state"], found["outcome"]) == ("done", "sent")


async def test_what_edges_count_is_what_is_reported(stored, over, sender, receiver, publish):
    """Two edges write the same day and domain; a policy that changed within the day stands for itself."""
    domain = "acme.scratch.test"
    now = await stored.mongo.now()
    ends = ("192.0.2.25", "198.51.100.7")
    old = Reported(domain, "sts", ("version: STSv1", "mode: testing"), (f"mx.{domain}",))
    new = replace(old, policy_string=("version: STSv1", "mode: enforce"))
    for _ in range(2):
        tally = Tally()
        for reported, fault in ((old, None), (new, None), (new, TlsFault("certificate-expired", "x509-10"))):
            tally.add(now - 24 * HOUR, reported, fault, f"mx.{domain}", ends)
        await TlsResultStore(stored.mongo).put(list(tally.sums.items()))
    await Planner(ReportStore(stored.mongo)).plan()
    over(5 * HOUR)
    await asking_for(publish, domain, f"https://{HOST}/")
    await sender(receiver.port).send_due()
    [report] = receiver.reports()
    found = {tuple(one["policy"]["policy-string"])[1]: one for one in report["policies"]}
    assert found["mode: testing"]["summary"]["total-successful-session-count"] == 2
    assert "failure-details" not in found["mode: testing"]
    enforced_part = found["mode: enforce"]
    assert enforced_part["policy"]["mx-host"] == [f"mx.{domain}"]
    assert enforced_part["summary"] == {"total-successful-session-count": 2, "total-failure-session-count": 2}
    assert enforced_part["failure-details"] == [
        {"result-type": "certificate-expired", "sending-mta-ip": "192.0.2.25", "receiving-ip": "198.51.100.7",
         "receiving-mx-hostname": f"mx.{domain}", "failure-reason-code": "x509-10", "failed-session-count": 2}
    ]  # fmt: skip


async def test_several_processes_send_each_report_once(stored, over, sender, receiver, publish):
    domains = [f"d{number}.scratch.test" for number in range(12)]
    for domain in domains:
        await waiting(stored, domain)
        await asking_for(publish, domain, f"https://{HOST}/")
    senders = [sender(receiver.port) for _ in range(4)]
    await asyncio.gather(*(one.send_due() for one in senders))
    told = [report["policies"][0]["policy"]["policy-domain"] for report in receiver.reports()]
    assert sorted(told) == sorted(domains)
    assert len(await stored.all(REPORTS, outcome="sent")) == 12


async def test_a_domain_that_asks_for_none_gets_none(stored, over, sender, receiver, publish):
    keys = [await waiting(stored, f"d{number}.scratch.test") for number in range(2)]
    await publish("_smtp._tls.d1.scratch.test", "TXT", f"v=TLSRPTv1; rua=https://{HOST}/", "v=TLSRPTv1; rua=x:y")
    await sender(receiver.port).send_due()
    assert [(await stored.get(REPORTS, key))["outcome"] for key in keys] == ["not_wanted"] * 2
    assert receiver.taken == []


async def test_while_nobody_can_tell_what_the_domain_wants_it_is_asked_again(stored, over, sender):
    key = await waiting(stored, "unserved.invalid")
    await sender().send_due()
    found = await stored.get(REPORTS, key)
    assert (found["state"], found["lease_owner"], found["attempts"]) == ("waiting", None, 1)
    assert found["due_at"] > await stored.mongo.now()


async def test_what_fails_for_now_is_tried_for_a_day_and_what_was_taken_is_not_sent_again(
    stored, over, sender, receiver, publish
):
    key = await waiting(stored, "acme.scratch.test")
    await asking_for(publish, "acme.scratch.test", f"https://{HOST}/a", "https://gone.scratch.test/b")
    sending = sender(receiver.port)
    attempts = 0
    for hours in range(30):
        over(hours * HOUR)
        await sending.send_due()
        attempts = (await stored.get(REPORTS, key))["attempts"]
    assert len(receiver.taken) == 1
    assert 5 < attempts < 20
    found = await stored.get(REPORTS, key)
    assert (found["state"], found["outcome"]) == ("done", "sent")
    assert [one["state"] for one in found["destinations"]] == ["sent", "open"]


@pytest.mark.parametrize(
    ("status", "state", "outcome"), [(400, "done", "given_up"), (503, "waiting", None), (429, "waiting", None)]
)
async def test_a_refusal_is_final_and_a_busy_receiver_is_asked_again(
    stored, over, sender, receiver, publish, status, state, outcome
):
    key = await waiting(stored, "acme.scratch.test")
    await asking_for(publish, "acme.scratch.test", f"https://{HOST}/")
    receiver.status = status
    await sender(receiver.port).send_due()
    found = await stored.get(REPORTS, key)
    assert (found["state"], found["outcome"]) == (state, outcome)
    assert found["destinations"][0]["detail"] == f"status {status}"


@pytest.mark.spec("R12")
async def test_nothing_inside_gets_a_report(stored, over, sender, receiver, publish):
    key = await waiting(stored, "acme.scratch.test")
    await asking_for(publish, "acme.scratch.test", f"https://{HOST}/", f"https://{HOST}:8443/")
    await sender(receiver.port, guard=NetGuard()).send_due()
    found = await stored.get(REPORTS, key)
    assert found["outcome"] == "given_up"
    assert "not a public one" in found["destinations"][0]["detail"]
    assert "port" in found["destinations"][1]["detail"]
    assert receiver.taken == []


async def test_a_sender_that_stood_still_past_its_lease_hands_nothing_over(stored, over, sender, publish):
    key = await waiting(stored, "acme.scratch.test")
    await asking_for(publish, "acme.scratch.test", "mailto:tls@acme.scratch.test")
    slow, another = sender(), sender()
    look = slow._lookup.look

    async def look_for_long(name, kind):
        found = await look(name, kind)
        over(LEASE + timedelta(seconds=1))
        await another.send_due()
        return found

    slow._lookup = SimpleNamespace(look=look_for_long)
    await slow.send_due()
    assert (await stored.get(REPORTS, key))["outcome"] == "sent"
    assert len(await stored.all(Collections.MESSAGES)) == 1


async def test_a_sender_that_dies_between_two_hand_overs_repeats_neither(stored, over, sender, receiver, publish):
    key = await waiting(stored, "acme.scratch.test")
    await asking_for(publish, "acme.scratch.test", f"https://{HOST}/a", f"https://{HOST}/b")
    dying = sender(receiver.port)
    post = dying._post

    async def once(uri, report):
        if uri.endswith("/b"):
            raise asyncio.CancelledError
        return await post(uri, report)

    dying._post = once
    with pytest.raises(asyncio.CancelledError):
        await dying.send_due()
    other = sender(receiver.port)
    await other.send_due()
    assert [path for path, _, _ in receiver.taken] == ["/a"]
    over(LEASE + timedelta(seconds=1))
    await other.send_due()
    assert [path for path, _, _ in receiver.taken] == ["/a", "/b"]
    assert (await stored.get(REPORTS, key))["outcome"] == "sent"


def enforced(domain, now):
    """The domain's policy as edges keep it."""
    return {
        "_id": domain, "policy_id": "1", "mode": "enforce", "mx": [f"mx.{domain}"], "max_age_seconds": 604_800,
        "lines": ["version: STSv1"], "fetched_at": now, "expires_at": now + 7 * 24 * HOUR,
    }  # fmt: skip


@pytest.fixture
async def exchanger():
    fake = await FakeHop().start()
    yield fake
    await fake.stop()


@pytest.fixture
async def edge(mongo_uri, database, vhost, named, exchanger, tmp_path):
    servers = f"{named.host}:{named.port}"
    inside = InsideEdge(
        mongo_uri, database, vhost, dns_servers=servers, edge_mx_port=exchanger.port, test_clock=tmp_path / "clock"
    )
    yield inside
    await inside.close()


async def test_a_report_by_mail_goes_through_an_edge_to_the_domains_exchanger(
    stored, over, sender, publish, exchanger, edge
):
    domain = "acme.scratch.test"
    key = await waiting(stored, domain)
    await asking_for(publish, domain, f"mailto:tls@{domain}")
    await publish(f"mx.{domain}", "A", "127.0.0.1")
    await publish(domain, "MX", f"10 mx.{domain}.")
    # The exchanger has no TLS, which a policy in force forbids; what a report tells of does not hold it up.
    await publish(f"_mta-sts.{domain}", "TXT", "v=STSv1; id=1;")
    await stored.put(Collections.STS_POLICIES, enforced(domain, await stored.mongo.now()))
    await sender().send_due()
    assert (await stored.get(REPORTS, key))["outcome"] == "sent"
    await edge.start()
    await eventually_async(lambda: exchanger.messages)
    [taken] = exchanger.messages
    assert (taken.sender, taken.recipients) == ("", [f"tls@{domain}"])
    found = email.message_from_bytes(taken.data, policy=email.policy.default)
    assert found.get_content_type() == "multipart/report"
    assert found["TLS-Report-Domain"] == domain
    _, attached = found.iter_parts()
    assert json.loads(gzip.decompress(attached.get_content()))["contact-info"] == "tls-reports@postern.scratch.test"

    async def done():
        [message] = await stored.all(Collections.MESSAGES)
        return message["state"] == "done" and message

    message = await eventually_async(done)
    assert message["recipients"][0]["state"] == "delivered"
    assert message["delete_at"] is not None
    assert message["tls_waived"] is True
