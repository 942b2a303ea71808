"""Nothing that got 250 is lost: group commit, leases that pass on, results that are merged, events that are swept."""

import asyncio

import pytest
from pymongo.read_concern import ReadConcern

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_edge.bodies.store import CHUNK_BYTES
from postern_edge.interfaces import AcceptedRecipient
from postern_edge.outbound.attempt import attempt
from tests.servers.edge_inside import CUSTOMER, DOMAIN, InsideEdge, message, states
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.waiting import eventually_async


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


async def all_done(edge, count):
    async def look():
        found = await edge.documents(state="done")
        return len(found) == count and found

    return await eventually_async(look, timeout=20)


@pytest.mark.spec("R4")
async def test_a_message_is_with_a_majority_when_the_spool_returns(edges):
    edge = edges()
    await edge.start(["commit"])
    majority = edge.raw(Collections.MESSAGES).with_options(read_concern=ReadConcern("majority"))
    bodies = edge.raw(Collections.BODIES).with_options(read_concern=ReadConcern("majority"))

    async def accept(number):
        large = b"x\r\n" * 30_000  # which lies apart from its message
        body = b"Subject: %d\r\n\r\n" % number + (large if number % 2 else b"")
        ids = await edge.edge.spool.accept(message(body=body))
        [message_id] = ids.message_ids
        stored = await majority.find_one({"_id": message_id})
        apart = await bodies.find_one({"_id": message_id})
        assert (apart["data"] if number % 2 else stored["content"]) == body
        assert (apart is None) == ("content" in stored)

    await asyncio.gather(*(accept(number) for number in range(200)))


@pytest.mark.spec("R4")
async def test_messages_that_arrive_together_share_inserts(edges):
    edge = edges()
    await edge.start(["commit"])
    batches = []
    write = edge.edge.spool.commit._write

    async def counted(batch):
        batches.append(len(batch))
        await write(batch)

    edge.edge.spool.commit._write = counted
    await asyncio.gather(*(edge.edge.spool.accept(message()) for _ in range(150)))
    assert sum(batches) == 150
    assert len(batches) <= 10
    assert max(batches) <= 100


@pytest.mark.spec("T2")
async def test_recipients_of_two_customers_become_two_messages(edges, hop):
    edge = edges()
    await edge.seed(hop)
    await edge.seed(hop, customer="cus_two", domain="two.test")
    await edge.start()
    recipients = [
        AcceptedRecipient(f"ann@{DOMAIN}", f"ann@{DOMAIN}", CUSTOMER, None),
        AcceptedRecipient("eve@two.test", "eve@two.test", "cus_two", None),
        AcceptedRecipient(f"bea@{DOMAIN}", f"bea@{DOMAIN}", CUSTOMER, None),
    ]
    ids = await edge.edge.spool.accept(message(recipients))
    assert len(ids.message_ids) == 2
    found = await all_done(edge, 2)
    assert {one["customer_id"]: one["recipient_keys"] for one in found} == {
        CUSTOMER: [f"ann@{DOMAIN}", f"bea@{DOMAIN}"],
        "cus_two": ["eve@two.test"],
    }
    assert sorted(len(taken.recipients) for taken in hop.messages) == [1, 2]


async def test_a_large_body_for_two_customers_is_there_for_both(edges, hop):
    edge = edges()
    await edge.seed(hop)
    await edge.seed(hop, customer="cus_two", domain="two.test")
    await edge.start()
    upload = edge.edge.spool.open_body("Q")
    body = b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n"
    await upload.write(body)
    recipients = [
        AcceptedRecipient(f"ann@{DOMAIN}", f"ann@{DOMAIN}", CUSTOMER, None),
        AcceptedRecipient("eve@two.test", "eve@two.test", "cus_two", None),
    ]
    await edge.edge.spool.accept(message(recipients, body=b"", stored_body=await upload.close(), size=len(body)))
    await all_done(edge, 2)
    assert [taken.data for taken in hop.messages] == [body, body]


async def test_one_message_that_cannot_be_stored_does_not_take_the_others_with_it(edges):
    edge = edges()
    await edge.start(["commit"])
    good = [edge.edge.spool.accept(message()) for _ in range(20)]
    bad = edge.edge.spool.accept(message(message_id="x" * (17 << 20)))
    outcomes = await asyncio.gather(*good[:10], bad, *good[10:], return_exceptions=True)
    assert sum(isinstance(one, Exception) for one in outcomes) == 1
    assert len(await edge.documents()) == 20


async def test_text_from_outside_that_the_database_would_refuse_is_made_storable(edges):
    edge = edges()
    await edge.start(["commit"])
    await edge.edge.spool.accept(message(subject="a\udcff\x00b", helo="\udc80", sender="x\udcff@y.test"))
    assert (await edge.one())["subject"] == "a?b"


@pytest.mark.spec("R4")
async def test_a_spool_without_a_database_refuses_for_now_and_keeps_nothing(edges, monkeypatch):
    monkeypatch.setattr("postern_edge.spool.COMMIT_SECONDS", 0.5)
    edge = edges(mongodb_uri="mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300")
    task = asyncio.create_task(edge.edge.spool.commit.run())
    with pytest.raises(Temporary):
        await edge.edge.spool.accept(message())
    task.cancel()


@pytest.mark.spec("R4")
async def test_who_stands_in_line_is_told_soon_once_the_database_was_waited_for(edges, monkeypatch):
    monkeypatch.setattr("postern_edge.spool.COMMIT_SECONDS", 2.0)
    monkeypatch.setattr("postern_common.mongo.SELECT_SERVER_MS", 100)
    edge = edges(mongodb_uri="mongodb://127.0.0.1:9/")
    task = asyncio.create_task(edge.edge.spool.commit.run())
    began = asyncio.get_running_loop().time()
    outcomes = await asyncio.gather(*(edge.edge.spool.accept(message()) for _ in range(1000)), return_exceptions=True)
    assert all(isinstance(one, Temporary) for one in outcomes)
    assert asyncio.get_running_loop().time() - began < 6, "five times as many as are written at once wait once"
    task.cancel()


@pytest.mark.spec("R4")
async def test_what_a_dead_edge_held_is_taken_over_when_its_lease_lapses(edges, hop):
    first = edges(edge_lease_seconds=3.0)
    second = edges(edge_lease_seconds=3.0)
    hop.delays["MAIL"] = 30
    await first.seed(hop)
    await first.start()
    await first.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("MAIL") == 1)
    await first.kill()
    hop.delays.clear()
    await second.start()
    await all_done(second, 1)
    assert len(hop.messages) == 1


async def test_leases_of_slow_deliveries_are_extended(edges, hop):
    first = edges(edge_lease_seconds=3.0, edge_reply_timeout_seconds=30)
    second = edges(edge_lease_seconds=3.0)
    hop.delays["MAIL"] = 5
    await first.seed(hop)
    await first.start()
    await second.start()
    await first.edge.spool.accept(message())
    await all_done(first, 1)
    assert hop.count("MAIL") == 1


async def test_a_delivery_whose_lease_was_lost_is_still_recorded(edges, hop):
    edge = edges()
    hop.delays["END"] = 0.5
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("DATA") == 1)
    changed = {"lease_owner": "somebody else", "version": 7}
    await edge.raw(Collections.MESSAGES).update_one({}, {"$set": changed})
    [done] = await all_done(edge, 1)
    assert done["recipients"][0]["state"] == "delivered"
    assert [step["what"] for step in done["steps"]] == ["received", "delivered"]


@pytest.mark.spec("R4", "R5")
async def test_an_edge_that_lost_a_message_leaves_its_body_to_the_one_that_has_it_now(edges, hop):
    edge = edges()
    hop.delays["RCPT"] = 0.5
    hop.recipients[f"ann@{DOMAIN}"] = "550 5.1.1 no"
    await edge.seed(hop)
    await edge.start()
    large = b"Subject: x\r\n\r\n" + b"x" * 500_000 + b"\r\n"
    await edge.edge.spool.accept(message(recipients=[f"ann@{DOMAIN}", f"eve@{DOMAIN}"], sender="", body=large))
    await eventually_async(lambda: hop.count("RCPT") == 1)
    changed = {"lease_owner": "somebody else", "version": 7}
    await edge.raw(Collections.MESSAGES).update_one({}, {"$set": changed})
    await eventually_async(lambda: not edge.edge.delivery._under_way)
    await asyncio.sleep(0.6)  # bodies of what is done go four times a second
    assert states(await edge.one()) == {f"ann@{DOMAIN}": "accepted", f"eve@{DOMAIN}": "delivered"}
    assert await edge.raw(Collections.BODIES).count_documents({}) == 1


async def test_drained_deliveries_go_back_to_the_queue_at_once(edges, hop):
    first, second = edges(), edges()
    hop.delays["MAIL"] = 30
    await first.seed(hop)
    await first.start()
    await first.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("MAIL") == 1)
    await first.edge.delivery.drain(0.2)
    hop.delays.clear()
    await second.start()
    await all_done(second, 1)


@pytest.mark.spec("V3")
async def test_events_are_published_after_acceptance_and_taken_out_of_the_message(edges, hop):
    edge = edges()
    published = record_events(edge)
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await no_events_left(edge)
    assert [one.name for one in published] == ["MessageReceived", "MessageDelivered"]
    assert published[1].data["reply"].startswith("250")
    assert DOMAIN not in str([one.data for one in published])


@pytest.mark.spec("V3")
async def test_events_of_a_dead_edge_are_swept_by_another(edges, hop):
    first = edges()
    await first.seed(hop)
    await first.start(["commit", "directory", "results", "delivery"])
    await first.edge.spool.accept(message())
    [done] = await all_done(first, 1)
    assert [event["type"].split(".")[-2] for event in done["pending_events"]] == ["MessageReceived", "MessageDelivered"]
    await first.kill()
    second = edges()
    published = record_events(second)
    await second.start()
    second.move_clock(90)
    await no_events_left(second)
    assert [one.name for one in published] == ["MessageReceived", "MessageDelivered"]


@pytest.mark.spec("V3")
async def test_events_wait_while_the_broker_is_away_and_mail_flows(edges, hop):
    edge = edges()
    await edge.seed(hop)
    await edge.start(["commit", "directory", "results", "delivery", "publisher"])
    await edge.edge.spool.accept(message())
    await all_done(edge, 1)
    assert (await edge.one())["dispatch"] == "pending"
    await edge.start(["bus"])
    edge.move_clock(90)
    await no_events_left(edge)


async def test_bodies_without_a_message_are_swept_once_they_are_old(edges):
    edge = edges()
    await edge.start(["commit"])
    await edge.edge.spool.accept(message(body=b"x\r\n" * 30_000))
    old = "msg_" + "0" * 32
    await edge.raw(Collections.BODIES).insert_one({"_id": old, "customer_id": CUSTOMER, "data": b"x"})
    assert await edge.edge.bodies.sweep() == 1
    assert await edge.raw(Collections.BODIES).count_documents({}) == 1


def record_events(edge):
    published = []
    publish = edge.edge.bus.publish

    async def recorded(envelopes):
        sent = await publish(envelopes)
        published.extend(one for one in envelopes if one.id in sent)
        return sent

    edge.edge.publisher._bus = type("Recorder", (), {"publish": staticmethod(recorded)})()
    return published


async def no_events_left(edge):
    async def look():
        found = await edge.documents()
        return found and all(one["pending_events"] == [] and one["dispatch"] is None for one in found)

    await eventually_async(look)


async def test_a_delivered_message_is_not_delivered_again_when_its_account_fails(edges, hop, monkeypatch):
    def broken(*_arguments, **_options):
        raise ValueError("a bug")

    monkeypatch.setattr("postern_edge.settlement.events_of", broken)
    edge = edges(edge_lease_seconds=3.0)
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await all_done(edge, 1)
    await asyncio.sleep(0.5)
    assert len(hop.messages) == 1


async def test_a_bug_in_an_attempt_defers_and_others_go_on(edges, hop, monkeypatch):
    async def broken(servers, choice, parcel, recipients):
        if recipients[0][1].address.startswith("odd"):
            raise RuntimeError("a bug with a secret in it")
        return await attempt(servers, choice, parcel, recipients)

    monkeypatch.setattr("postern_edge.delivery.attempt", broken)
    edge = edges()
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message([f"odd@{DOMAIN}"]))
    await edge.edge.spool.accept(message())
    await all_done(edge, 1)

    async def odd_deferred():
        [odd] = await edge.documents(state="queued")
        return odd["recipients"][0]["state"] == "deferred" and odd

    odd = await eventually_async(odd_deferred)
    assert "secret" not in str(odd["steps"])


@pytest.mark.spec("R4")
async def test_what_an_upload_was_given_is_stored_when_it_returns_and_not_held_in_memory(edges):
    edge = edges()
    await edge.start(["commit"])
    chunks = edge.mongo.db["large_bodies.chunks"]
    upload = edge.edge.spool.open_body("Q1")
    for number in range(1, 4):
        await upload.write(b"x" * CHUNK_BYTES + b"y")
        assert await chunks.count_documents({}) == number
    stored = await upload.close()
    assert stored.size == 3 * (CHUNK_BYTES + 1)
    assert await chunks.count_documents({}) == 4


@pytest.mark.spec("R4")
async def test_nothing_is_left_of_an_upload_that_is_broken_off_in_the_middle_of_a_write(edges, monkeypatch):
    edge = edges()
    await edge.start(["commit"])
    bodies, put, begun = edge.edge.bodies, edge.edge.bodies.put_chunks, asyncio.Event()

    async def late(*arguments):
        begun.set()
        await asyncio.sleep(0.3)
        await put(*arguments)

    async def put_chunks(*arguments):  # as the driver's threads do, it goes on when nobody waits any more
        await asyncio.shield(asyncio.create_task(late(*arguments)))

    monkeypatch.setattr(bodies, "put_chunks", put_chunks)
    upload = edge.edge.spool.open_body("Q1")
    write = asyncio.create_task(upload.write(b"x" * 3 * CHUNK_BYTES))
    await begun.wait()
    write.cancel()
    await asyncio.wait({write})
    await upload.abort()
    await asyncio.sleep(0.5)
    assert await edge.mongo.db["large_bodies.chunks"].count_documents({}) == 0
    assert await edge.raw(Collections.BODIES).count_documents({}) == 0
