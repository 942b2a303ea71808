"""A bus whose connection, channel, consumer or queue is taken away: it notices, loses nothing, and works again."""

import asyncio
from datetime import UTC, datetime
from functools import partial

import aio_pika
import pytest
from pydantic import SecretStr

from postern_common import bus as bus_module
from postern_common import topology
from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.envelope import Envelope
from postern_common.errors import Temporary
from postern_common.events import DomainAdded
from postern_common.mongo import Mongo
from postern_common.settings import CommonSettings
from tests.servers.waiting import eventually_async

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MAIN = topology.main_queue("dns-verifier")


class Consumer:
    """Remembers what it handled; fails as told, and waits where a gate is shut."""

    def __init__(self, mongo, vhost):
        self.handled = []
        self.failures = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.bus = Bus(vhost, "dns-verifier", mongo, {DomainAdded: self.handle})

    async def handle(self, envelope, session):
        if self.failures:
            raise self.failures.pop(0)
        self.handled.append(envelope.id)
        await self.gate.wait()


@pytest.fixture
async def mongo(mongo_uri, database):
    settings = CommonSettings.model_construct(mongodb_uri=SecretStr(mongo_uri), mongodb_database=database)
    client = Mongo.connect(settings, Clock())
    await client.ensure_indexes()
    yield client
    client.close()


@pytest.fixture
async def start(mongo, vhost, monkeypatch):
    monkeypatch.setattr(bus_module, "WATCH_SECONDS", 0.3)
    tasks = []

    async def begin():
        consumer = Consumer(mongo, vhost)
        tasks.append(asyncio.create_task(consumer.bus.run()))
        await eventually_async(lambda: consumer.bus.ready)
        return consumer

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def wrap():
    event = DomainAdded(customer_id="cus_1", domain_id="dom_1", name_="example.test", deadline=NOW)
    return Envelope.of(event, service="api", now=NOW)


async def delete(vhost, *, exchange=None, queue=None):
    connection = await aio_pika.connect(vhost)
    async with connection:
        channel = await connection.channel()
        if exchange:
            await channel.exchange_delete(exchange)
        if queue:
            await channel.queue_delete(queue)


@pytest.mark.spec("V3")
async def test_a_draining_bus_takes_nothing_new_however_long_the_work_under_way_lasts(start):
    consumer = await start()
    consumer.gate.clear()
    first, second = wrap(), wrap()
    await consumer.bus.publish([first])
    await eventually_async(lambda: consumer.handled == [first.id])
    draining = asyncio.create_task(consumer.bus.drain())
    await asyncio.sleep(0.2)
    await consumer.bus.publish([second])
    await asyncio.sleep(1.5)
    assert consumer.handled == [first.id]
    assert consumer.bus.ready
    consumer.gate.set()
    async with asyncio.timeout(5):
        await draining
    await asyncio.sleep(0.5)
    assert consumer.handled == [first.id]


@pytest.mark.spec("V3")
async def test_a_publishing_channel_that_the_broker_closed_is_replaced(start, vhost):
    consumer = await start()
    await delete(vhost, exchange=topology.EXCHANGE)
    assert await consumer.bus.publish([wrap()]) == set()
    envelope = wrap()
    await eventually_async(lambda: consumer.bus.publish([envelope]) if consumer.bus.ready else None, timeout=10)
    await eventually_async(lambda: envelope.id in consumer.handled)


@pytest.mark.spec("V3")
async def test_a_connection_that_is_given_up_while_events_wait_for_their_confirm_cancels_nobody(start):
    consumer = await start()
    events, published = [wrap() for _ in range(5000)], []
    for moment in (0.0, 0.002, 0.005, 0.01):
        await eventually_async(lambda: consumer.bus.ready)
        async with asyncio.TaskGroup() as group, asyncio.timeout(5):
            publishing = group.create_task(consumer.bus.publish(events))
            await asyncio.sleep(moment)
            await consumer.bus._disconnect()
        published.append(len(publishing.result()))
    assert max(published) < len(events)


@pytest.mark.spec("V3")
async def test_case_67_a_consumer_that_was_dropped_comes_back_although_another_one_consumes(start):
    dropped, other = await start(), await start()
    queue, _ = dropped.bus._consumers[0]
    channel = await queue.channel.get_underlay_channel()
    await channel.basic_ack(delivery_tag=999)  # the broker closes the channel of whoever does that
    await eventually_async(lambda: not dropped.bus.ready, timeout=5)
    await eventually_async(lambda: dropped.bus.ready, timeout=5)
    await other.bus.drain()
    envelope = wrap()
    await other.bus.publish([envelope])
    await eventually_async(lambda: dropped.handled == [envelope.id])


@pytest.mark.spec("V3")
async def test_case_67_both_consumers_of_a_deleted_queue_come_back(start, vhost):
    first, second = await start(), await start()
    await delete(vhost, queue=MAIN)
    await asyncio.sleep(2)
    await eventually_async(lambda: first.bus.ready and second.bus.ready)
    for draining, taking in ((first, second),):
        await draining.bus.drain()
        envelope = wrap()
        await draining.bus.publish([envelope])
        await eventually_async(partial(taking.handled.__contains__, envelope.id))


@pytest.mark.spec("V3")
async def test_an_event_that_can_neither_be_acknowledged_nor_moved_comes_again(start, vhost):
    consumer = await start()
    await delete(vhost, queue=topology.retry_queue("dns-verifier", 1))
    consumer.failures = [Temporary("not now")]
    envelope = wrap()
    await consumer.bus.publish([envelope])
    await eventually_async(lambda: consumer.handled == [envelope.id], timeout=10)
