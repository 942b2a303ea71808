"""Who has a message, and for how long: edges that only take, operators that hold, leases that pass on, retention."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_edge import delivery
from postern_edge.delivery import Delivery
from postern_edge.interfaces import AcceptedRecipient
from postern_edge.messages import Lease, Terms, split
from postern_edge.outbound.attempt import attempt
from tests.servers.edge_inside import CUSTOMER, DOMAIN, InsideEdge, deferred, message, server, settled, states
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.waiting import eventually_async


@pytest.fixture
async def other():
    fake = await FakeHop().start()
    yield fake
    await fake.stop()


@pytest.fixture
async def edges(mongo_uri, database, vhost, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    made = []

    def make(**settings):
        made.append(InsideEdge(mongo_uri, database, vhost, test_clock=clock, **settings))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_an_edge_without_deliveries_leaves_its_messages_to_others_at_once(edges, hop):
    taker = edges(edge_deliveries=0)
    await taker.seed(hop)
    await taker.start()
    await taker.edge.spool.accept(message())
    await asyncio.sleep(0.5)
    waiting = await taker.one()
    assert (waiting["lease_owner"], waiting["lease_until"]) == (None, None)
    assert waiting["due_at"] <= taker.edge.queue.time.now()
    assert hop.connections == 0
    await edges().start()
    await settled(taker)
    assert len(hop.messages) == 1


@pytest.mark.spec("R4", "R5")
async def test_messages_for_which_a_line_is_too_long_go_back_together_and_are_delivered_later(edges, hop, monkeypatch):
    monkeypatch.setattr(delivery, "MAX_IN_LINE", 0)
    edge = edges(edge_deliveries_per_server=1)
    hop.delays["MAIL"] = 0.5
    await edge.seed(hop)
    await edge.start()
    await asyncio.gather(*(edge.edge.spool.accept(message()) for _ in range(6)))

    async def given_back():
        return len(await edge.documents(lease_owner=None, state="queued")) >= 4

    await eventually_async(given_back)
    hop.delays.clear()
    edge.move_clock(10)
    monkeypatch.setattr(delivery, "MAX_IN_LINE", 3000)
    assert len(await settled(edge)) == 6
    assert len(hop.messages) == 6


@pytest.mark.spec("R13")
async def test_the_customers_retention_counts_from_the_end_of_the_message(edges, hop):
    edge = edges()
    hop.replies["RCPT"] = "451 4.2.1 later"
    await edge.seed(hop, retention={"trace_days": 7})
    await edge.start()
    await edge.edge.spool.accept(message())
    assert (await deferred(edge))["delete_at"] is None
    hop.replies.clear()
    edge.move_clock(3600)
    [done] = await settled(edge)
    left = done["delete_at"] - edge.edge.queue.time.now()
    assert timedelta(days=7) - timedelta(minutes=1) < left <= timedelta(days=7)
    assert edge.edge.directory.index.trace_kept("cus_unknown") == timedelta(days=30)


@pytest.mark.spec("R5")
@pytest.mark.parametrize("counts_version", [True, False])
async def test_a_message_that_is_held_during_an_attempt_stays_held_with_the_attempts_result(edges, hop, counts_version):
    edge = edges()
    hop.delays["RCPT"] = 0.5
    hop.replies["RCPT"] = "451 4.2.1 later"
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("MAIL") == 1)
    held = {"$set": {"state": "held"}, **({"$inc": {"version": 1}} if counts_version else {})}
    await edge.raw(Collections.MESSAGES).update_one({}, held)
    found = await deferred(edge)
    assert found["state"] == "held"
    edge.move_clock(3600)
    await asyncio.sleep(0.5)
    assert hop.count("MAIL") == 1
    hop.replies.clear()
    await edge.raw(Collections.MESSAGES).update_one({}, {"$set": {"state": "queued"}, "$inc": {"version": 1}})
    await settled(edge)
    assert len(hop.messages) == 1


@pytest.mark.spec("R5")
async def test_a_bounce_of_a_message_that_is_held_meanwhile_is_still_told(edges, hop):
    edge = edges()
    hop.delays["RCPT"] = 0.5
    hop.replies["RCPT"] = "550 5.1.1 no"
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("MAIL") == 1)
    await edge.raw(Collections.MESSAGES).update_one({}, {"$set": {"state": "held"}, "$inc": {"version": 1}})

    async def told():
        return len(await edge.documents(direction="dsn")) == 1

    await eventually_async(told)
    assert (await edge.one(direction="inbound"))["state"] == "done"


@pytest.mark.spec("R5")
async def test_a_refusal_found_by_an_edge_that_lost_its_lease_is_left_to_the_one_that_has_it(edges, hop):
    edge = edges()
    hop.delays["RCPT"] = 0.5
    hop.replies["RCPT"] = "550 5.1.1 no"
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("MAIL") == 1)
    until = datetime.now(UTC) + timedelta(minutes=1)
    await edge.raw(Collections.MESSAGES).update_one({}, {"$set": {"lease_owner": "another", "lease_until": until}})
    await eventually_async(lambda: not edge.edge.delivery._under_way)
    found = await edge.one()
    assert states(found) == {f"ann@{DOMAIN}": "accepted"}
    assert found["lease_owner"] == "another"
    edge.move_clock(90)

    async def told():
        return len(await edge.documents(direction="dsn")) == 1

    await eventually_async(told)


@pytest.mark.spec("R4")
async def test_a_refused_message_that_another_edge_has_by_now_keeps_its_body(edges):
    edge = edges()
    await edge.start(["commit"])
    large = b"x\r\n" * 30_000  # which lies apart from the message
    await edge.edge.spool.accept(message(body=large))
    await edge.edge.spool.accept(message(body=large))
    taken, untouched = await edge.documents()
    claimed = datetime.now(UTC) + timedelta(minutes=9)
    await edge.raw(Collections.MESSAGES).update_one(
        {"_id": taken["_id"]}, {"$set": {"lease_owner": "another", "lease_until": claimed}}
    )
    for document in (taken, untouched):
        terms = Terms(document["received_at"], Lease("x", document["lease_until"]), timedelta(days=5))
        [entry] = split(message(body=large), terms)
        entry.document["_id"] = document["_id"]
        await edge.edge.spool._remove([entry])
    assert [one["_id"] for one in await edge.documents()] == [taken["_id"]]
    bodies = await edge.raw(Collections.BODIES).find().to_list(None)
    assert [one["_id"] for one in bodies] == [taken["_id"]]


async def test_what_one_site_took_is_not_sent_again_when_the_next_attempt_breaks(edges, hop, other, monkeypatch):
    failures = ["once"]

    async def broken(servers, choice, parcel, recipients):
        if recipients[0][1].address.startswith("eve") and failures:
            failures.pop()
            raise Temporary("the body store is away")
        return await attempt(servers, choice, parcel, recipients)

    monkeypatch.setattr("postern_edge.delivery.attempt", broken)
    edge = edges()
    await edge.seed(hop)
    await edge.add_site("sit_user", [server(other)])
    user = "usr_0192f0c1a8b47c3e9d215b7f10aa3c57"
    await edge.raw(Collections.USERS).insert_one({"_id": user, "customer_id": CUSTOMER, "site_id": "sit_user"})
    await edge.start()
    eve = AcceptedRecipient(f"eve@{DOMAIN}", f"eve@{DOMAIN}", CUSTOMER, user)
    await edge.edge.spool.accept(message([f"ann@{DOMAIN}", eve]))
    await settled(edge)
    assert hop.taken_recipients == [f"ann@{DOMAIN}"]
    assert other.taken_recipients == [f"eve@{DOMAIN}"]


async def test_what_one_server_took_is_not_sent_again_when_the_next_one_leads_to_a_bug(edges, hop, other, monkeypatch):
    hop.recipients[f"eve@{DOMAIN}"] = "451 4.2.1 later"
    edge = edges()
    read = edge.edge.delivery._servers.use

    def use(chosen, customer_id, **options):
        if chosen.port == other.port:
            raise RuntimeError("a bug")
        return read(chosen, customer_id, **options)

    monkeypatch.setattr(edge.edge.delivery._servers, "use", use)
    await edge.seed(server(hop, 5), server(other, 20))
    await edge.start()
    await edge.edge.spool.accept(message([f"ann@{DOMAIN}", f"eve@{DOMAIN}"]))
    await eventually_async(lambda: hop.count("RCPT TO:<EVE") >= 1)
    await asyncio.sleep(1)
    assert hop.taken_recipients == [f"ann@{DOMAIN}"]


async def test_a_message_whose_lease_is_not_sure_any_more_is_not_handed_over(edges, hop, monkeypatch):
    edge = edges()
    begin = Delivery._begin
    first = []

    def begin_late(self, entry):
        begin(self, entry)
        if not first:
            first.append(entry.message_id)
            self._leases.begin(entry.message_id, -1)

    monkeypatch.setattr(Delivery, "_begin", begin_late)
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: hop.connections == 1)
    await asyncio.sleep(0.3)
    assert hop.messages == []
    edge.move_clock(10)
    await settled(edge)
    assert len(hop.messages) == 1


@pytest.mark.spec("R5")
async def test_a_step_of_this_machines_clock_returns_no_message_early(edges, hop, monkeypatch):
    edge = edges()
    hop.delays["RCPT"] = 0.5
    hop.replies["RCPT"] = "451 4.2.1 later"
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("MAIL") == 1)
    ahead = datetime.now(UTC) + timedelta(days=6)
    monkeypatch.setattr(type(edge.mongo.clock), "now", lambda _self: ahead)
    found = await deferred(edge)
    assert found["due_at"] < datetime.now(UTC) + timedelta(minutes=5)


@pytest.mark.spec("R3")
async def test_a_server_that_never_answers_is_left_out_however_long_it_is_waited_for(edges, hop):
    edge = edges(edge_idle_connection_seconds=0.5, edge_connect_timeout_seconds=1.0)
    hop.delays["CONNECT"] = 5
    await edge.seed(hop)
    await edge.start()
    for _ in range(3):
        await edge.edge.spool.accept(message())

    async def left_out():
        [known] = edge.edge.delivery._servers._hops.values()
        return known.breaker.open_until is not None

    await eventually_async(left_out)


@pytest.mark.spec("R3")
async def test_a_server_that_falls_silent_after_its_greeting_is_left_out_too(edges, hop):
    edge = edges(edge_reply_timeout_seconds=0.3)
    hop.delays["MAIL"] = 5
    await edge.seed(hop)
    await edge.start()
    for _ in range(3):
        await edge.edge.spool.accept(message())

    async def left_out():
        [known] = edge.edge.delivery._servers._hops.values()
        return known.breaker.open_until is not None

    await eventually_async(left_out)


async def test_sweepers_that_look_together_share_the_events(edges):
    first, second = edges(), edges()
    await first.start(["commit"])
    await asyncio.gather(*(first.edge.spool.accept(message()) for _ in range(50)))
    first.move_clock(90)
    shares = await asyncio.gather(first.edge.queue.unsent(), second.edge.queue.unsent())
    found = [message_id for share in shares for message_id, _ in share]
    assert len(found) == len(set(found)) == 50


async def test_what_is_asked_often_is_answered_by_an_index(edges):
    edge = edges()
    await edge.start(["commit"])
    done = {"state": "done", "due_at": None, "lease_until": None, "dispatch": None, "dispatch_after": None}
    await edge.raw(Collections.MESSAGES).insert_many([{"_id": f"done{number}", **done} for number in range(500)])
    await asyncio.gather(*(edge.edge.spool.accept(message()) for _ in range(20)))
    await edge.mongo.db.command("profile", 2)
    await edge.edge.queue.depth()
    await edge.edge.queue.claim(10, [])
    await edge.edge.queue.unsent()
    await edge.mongo.db.command("profile", 0)
    looks = await edge.mongo.db["system.profile"].find({"ns": {"$regex": "messages$"}}).to_list(None)
    assert len(looks) >= 3
    assert all(look.get("docsExamined", 0) <= 20 for look in looks), [look["planSummary"] for look in looks]


async def test_a_notification_to_a_domain_of_ours_without_a_site_waits_and_is_not_sent_to_ourselves(edges, hop):
    hop.replies["RCPT"] = "550 5.1.1 no"
    edge = edges()
    await edge.seed(hop)
    await edge.seed(customer="cus_new", domain="sender.test")
    await edge.start()
    await edge.edge.spool.accept(message())

    async def waits():
        found = await edge.documents(direction="dsn")
        return found and found[0]["recipients"][0]["reply"] == "no mail server is configured"

    await eventually_async(waits)


def test_a_certificate_that_cannot_serve_stops_the_start_with_a_clear_word(tmp_path):
    (tmp_path / "cert.pem").write_text("no certificate")
    (tmp_path / "key.pem").write_text("no key")
    environment = {
        "MONGODB_URI": "mongodb://127.0.0.1:9/",
        "AMQP_URL": "amqp://127.0.0.1:9/",
        "PATH": os.environ["PATH"],
        "POSTERN_EDGE_TLS_CERTIFICATE_FILE": str(tmp_path / "cert.pem"),
        "POSTERN_EDGE_TLS_KEY_FILE": str(tmp_path / "key.pem"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "postern_edge"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78
    assert "POSTERN_EDGE_TLS_CERTIFICATE_FILE: certificate and key do not serve" in done.stderr
    assert "Traceback" not in done.stderr
