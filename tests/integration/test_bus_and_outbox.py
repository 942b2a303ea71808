"""Events between services on a real broker and a real database: nothing lost, nothing done twice, poison parked."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import aio_pika
import prometheus_client
import pytest
from pydantic import SecretStr

from postern_common import bus as bus_module
from postern_common import deadletters, outbox, topology
from postern_common.bus import MAX_BUG_ATTEMPTS, Bus
from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.envelope import Envelope
from postern_common.errors import Rejected, Temporary
from postern_common.events import DomainAdded, MessageReceived, SyncRequested
from postern_common.mongo import PLATFORM, Mongo
from postern_common.settings import CommonSettings
from tests.servers.waiting import eventually_async

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ADDED = DomainAdded(customer_id="cus_1", domain_id="dom_1", name_="example.test", deadline=NOW)


@pytest.fixture
async def mongo(mongo_uri, database):
    settings = CommonSettings.model_construct(mongodb_uri=SecretStr(mongo_uri), mongodb_database=database)
    client = Mongo.connect(settings, Clock())
    await client.ensure_indexes()
    yield client
    client.close()


class Verifier:
    """A consumer that remembers what it handled and fails as told."""

    def __init__(self, mongo):
        self.mongo = mongo
        self.bus: Bus
        self.handled = []
        self.failures = []

    async def handle(self, envelope, session):
        if self.failures:
            raise self.failures.pop(0)
        self.handled.append(envelope.id)
        done = self.mongo.collection(Collections.SYNC_RUNS, PLATFORM)
        await done.insert_one({"_id": envelope.id, "customer_id": envelope.customer_id}, session=session)

    async def effects(self):
        return await self.mongo.collection(Collections.SYNC_RUNS, PLATFORM).count({})


@pytest.fixture
async def running():
    tasks = []

    def run(work):
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    yield run
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def verifier(mongo, vhost, running):
    consumer = Verifier(mongo)
    consumer.bus = Bus(vhost, "dns-verifier", mongo, {DomainAdded: consumer.handle})
    running(consumer.bus.run())
    await eventually_async(lambda: consumer.bus.ready)
    return consumer


def wrap(event=ADDED):
    return Envelope.of(event, service="api", now=NOW)


async def depth(vhost, queue):
    connection = await aio_pika.connect(vhost)
    async with connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count


async def take(vhost, queue):
    connection = await aio_pika.connect(vhost)
    async with connection:
        channel = await connection.channel()
        return await (await channel.get_queue(queue)).get(no_ack=True, timeout=5, fail=False)


@pytest.mark.spec("V3")
async def test_a_change_that_is_rolled_back_leaves_no_event_and_a_committed_one_is_published(mongo, vhost, verifier):
    relay = outbox.OutboxRelay(mongo, verifier.bus)

    async def change_and_fail(session):
        await outbox.append(mongo, session, ADDED, service="api")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await mongo.transact(change_and_fail)
    assert not await relay.publish_batch()
    envelope = await mongo.transact(lambda session: outbox.append(mongo, session, ADDED, service="api"))
    await relay.publish_batch()
    await eventually_async(lambda: verifier.handled == [envelope.id])
    stored = await mongo.collection(Collections.OUTBOX, PLATFORM).find_one({"_id": envelope.id})
    assert stored["state"] == "sent"


@pytest.mark.spec("V3")
async def test_several_relays_publish_each_event_once(mongo, verifier):
    for _ in range(3):
        await mongo.transact(lambda session: _append_many(mongo, session, 50))
    relays = [outbox.OutboxRelay(mongo, verifier.bus) for _ in range(4)]
    await asyncio.gather(*(_exhaust(relay) for relay in relays))
    await eventually_async(lambda: len(verifier.handled) == 150)
    assert len(set(verifier.handled)) == 150


@pytest.mark.spec("V3")
async def test_an_event_is_not_delayed_by_a_writer_whose_clock_is_ahead(mongo, vhost, verifier):
    class HourAhead(Clock):
        def now(self):
            return super().now() + timedelta(hours=1)

    mongo.clock = HourAhead()
    envelope = await mongo.transact(lambda session: outbox.append(mongo, session, ADDED, service="api"))
    await outbox.OutboxRelay(mongo, verifier.bus).publish_batch()
    await eventually_async(lambda: verifier.handled == [envelope.id])


@pytest.mark.spec("V3")
async def test_events_are_free_again_at_once_when_the_broker_is_away(mongo, vhost):
    relay = outbox.OutboxRelay(mongo, Bus(vhost, "api", mongo))
    await mongo.transact(lambda session: outbox.append(mongo, session, ADDED, service="api"))
    for _ in range(2):
        with pytest.raises(Temporary, match="not connected"):
            await relay.publish_batch()


async def _append_many(mongo, session, count):
    for _ in range(count):
        await outbox.append(mongo, session, ADDED, service="api")


async def _exhaust(relay):
    while await relay.publish_batch():
        pass


@pytest.mark.spec("V3")
async def test_an_event_written_while_the_broker_is_away_is_published_when_it_is_back(
    mongo, vhost, running, rabbitmq_unit
):
    bus = Bus(vhost, "api", mongo)
    running(bus.run())
    await eventually_async(lambda: bus.ready)
    relay = outbox.OutboxRelay(mongo, bus)
    running(relay.run())
    await asyncio.to_thread(rabbitmq_unit.kill)
    await eventually_async(lambda: not bus.ready)
    with pytest.raises(Temporary):
        await bus.check()
    envelope = await mongo.transact(lambda session: outbox.append(mongo, session, ADDED, service="api"))
    relay.kick()
    await asyncio.to_thread(rabbitmq_unit.start)
    await eventually_async(lambda: bus.ready, timeout=30)
    sent = mongo.collection(Collections.OUTBOX, PLATFORM)
    await eventually_async(lambda: sent.find_one({"_id": envelope.id, "state": "sent"}), timeout=40)
    assert await depth(vhost, topology.main_queue("dns-verifier")) == 1


@pytest.mark.spec("V3")
async def test_an_event_whose_consumers_queue_is_missing_is_not_taken_for_published(mongo, vhost, running):
    bus = Bus(vhost, "api", mongo)
    running(bus.run())
    await eventually_async(lambda: bus.ready)
    connection = await aio_pika.connect(vhost)
    async with connection:
        await (await connection.channel()).queue_delete(topology.main_queue("directory-sync"))
    asked = wrap(SyncRequested(customer_id="cus_1", run_id="run_1", requested_by="schedule"))
    nobody_consumes = wrap(
        MessageReceived(
            customer_id="cus_1", message_id="msg_1", queue_id="q", direction="inbound", size=1, recipients=1
        )
    )
    assert await bus.publish([asked, nobody_consumes]) == {nobody_consumes.id}


@pytest.mark.spec("V3")
async def test_case_69_a_negative_acknowledgement_is_no_success(mongo, vhost, running):
    bus = Bus(vhost, "api", mongo)
    running(bus.run())
    await eventually_async(lambda: bus.ready)
    connection = await aio_pika.connect(vhost)
    async with connection:
        channel = await connection.channel()
        full = await channel.declare_queue(
            "full",
            durable=True,
            arguments={"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"},
        )
        await full.bind(topology.EXCHANGE, "DomainAdded")
        first = wrap()
        assert await bus.publish([first]) == {first.id}
        assert await bus.publish([wrap()]) == set()


@pytest.mark.spec("V3")
async def test_duplicates_take_effect_once_also_when_they_arrive_together(verifier):
    first, second = wrap(), wrap()
    await verifier.bus.publish([second, first, first, first, second, first])
    await eventually_async(lambda: len(set(verifier.handled)) == 2)
    await verifier.bus.publish([first])
    await asyncio.sleep(0.5)
    assert await verifier.effects() == 2


@pytest.mark.spec("V3")
async def test_a_temporary_failure_is_tried_again_after_a_delay(verifier):
    verifier.failures = [Temporary("not now")]
    envelope = wrap()
    await verifier.bus.publish([envelope])
    await asyncio.sleep(0.3)
    assert verifier.handled == []
    await eventually_async(lambda: verifier.handled == [envelope.id], timeout=10)
    assert await verifier.effects() == 1


@pytest.mark.spec("V3")
async def test_a_poison_message_ends_in_the_dead_letter_queue_with_its_reason(vhost, verifier, monkeypatch):
    monkeypatch.setattr(topology, "retry_queue", lambda service, attempt: f"postern.{service}.retry.1s")
    verifier.failures = [ValueError("secret detail")] * MAX_BUG_ATTEMPTS
    await verifier.bus.publish([wrap()])
    dead = topology.dead_queue("dns-verifier")
    await eventually_async(lambda: depth(vhost, dead), timeout=20)
    message = await take(vhost, dead)
    assert message.headers[topology.REASON_HEADER] == "bug: ValueError"
    assert Envelope.parse(message.body).event() == ADDED
    healthy = wrap()
    await verifier.bus.publish([healthy])
    await eventually_async(lambda: verifier.handled == [healthy.id])


@pytest.mark.spec("V3")
@pytest.mark.parametrize("body", [b"not json", b"{}", b'{"type": "com.postern.Nothing.v1"}'])
async def test_garbage_is_parked_at_once_and_the_consumer_goes_on(vhost, verifier, body):
    connection = await aio_pika.connect(vhost)
    async with connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(body), topology.main_queue("dns-verifier"))
    dead = topology.dead_queue("dns-verifier")
    await eventually_async(lambda: depth(vhost, dead))
    message = await take(vhost, dead)
    assert message.body == body
    assert "invalid-envelope" in message.headers[topology.REASON_HEADER]
    healthy = wrap()
    await verifier.bus.publish([healthy])
    await eventually_async(lambda: verifier.handled == [healthy.id])


@pytest.mark.spec("V3")
async def test_case_67_consumers_come_back_after_the_broker_restarts(verifier, rabbitmq_unit):
    await asyncio.to_thread(rabbitmq_unit.kill)
    await eventually_async(lambda: not verifier.bus.ready)
    await asyncio.to_thread(rabbitmq_unit.start)
    await eventually_async(lambda: verifier.bus.ready, timeout=40)
    envelope = wrap()
    await eventually_async(lambda: verifier.bus.publish([envelope]), timeout=20)
    await eventually_async(lambda: verifier.handled == [envelope.id])


@pytest.mark.spec("V3")
async def test_case_67_a_queue_deleted_under_its_consumer_is_declared_and_consumed_again(vhost, verifier):
    connection = await aio_pika.connect(vhost)
    async with connection:
        await (await connection.channel()).queue_delete(topology.main_queue("dns-verifier"))
    await eventually_async(lambda: not verifier.bus.ready, timeout=15)
    await eventually_async(lambda: verifier.bus.ready, timeout=15)
    envelope = wrap()
    assert await verifier.bus.publish([envelope]) == {envelope.id}
    await eventually_async(lambda: verifier.handled == [envelope.id])


@pytest.mark.spec("V3")
async def test_what_was_not_acknowledged_is_delivered_to_the_next_consumer(mongo, vhost, running):
    slow = Verifier(mongo)
    started = asyncio.Event()

    async def hang(envelope, session):
        started.set()
        await asyncio.sleep(60)

    first = Bus(vhost, "dns-verifier", mongo, {DomainAdded: hang})
    task = running(first.run())
    await eventually_async(lambda: first.ready)
    envelope = wrap()
    await first.publish([envelope])
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    second = Bus(vhost, "dns-verifier", mongo, {DomainAdded: slow.handle})
    running(second.run())
    await eventually_async(lambda: slow.handled == [envelope.id], timeout=20)


@pytest.mark.spec("V3")
async def test_parked_events_are_listed_with_their_reason_and_given_back_to_their_consumer(vhost, verifier):
    verifier.failures = [Rejected("unfit", "no such domain")]
    envelope = wrap()
    await verifier.bus.publish([envelope])
    await eventually_async(lambda: depth(vhost, topology.dead_queue("dns-verifier")))
    (line,) = await deadletters.listing(vhost, "dns-verifier", 10)
    assert "DomainAdded" in line
    assert envelope.id in line
    assert "unfit: no such domain" in line
    await eventually_async(lambda: depth(vhost, topology.dead_queue("dns-verifier")))
    assert await deadletters.replay(vhost, "dns-verifier", 10) == 1
    await eventually_async(lambda: verifier.handled == [envelope.id])
    assert await deadletters.listing(vhost, "dns-verifier", 10) == []


@pytest.mark.spec("V3")
async def test_case_68_a_consumer_that_does_nothing_shows_in_lag_and_time_of_last_event(
    mongo, vhost, running, monkeypatch
):
    monkeypatch.setattr(bus_module, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(bus_module, "PREFETCH", 1)

    async def hang(envelope, session):
        await asyncio.sleep(60)

    stuck = Bus(vhost, "dns-verifier", mongo, {DomainAdded: hang})
    running(stuck.run())
    await eventually_async(lambda: stuck.ready)
    await stuck.publish([wrap() for _ in range(5)])
    await eventually_async(lambda: metric("postern_common_events_waiting") == 4)
    assert abs(metric("postern_common_last_event_timestamp_seconds") - time.time()) < 30


def metric(name):
    return prometheus_client.REGISTRY.get_sample_value(name)
