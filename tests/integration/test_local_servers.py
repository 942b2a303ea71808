"""The servers of the local stack, each asked for what the services need of it."""

import smtplib
from collections.abc import Callable
from typing import Any

import aio_pika
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest
from pymongo import MongoClient

from postern_local.nameserver import Nameserver
from postern_local.nexthop import SmtpSink
from postern_local.unit import Unit
from tests.servers.farm import Farm
from tests.servers.mail import Dialogue, smtp_send
from tests.servers.waiting import eventually


def client_of(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, w="majority", journal=True)


def ask(named: Nameserver, name: str, kind: str) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, kind), named.host, timeout=3, port=named.port)


def test_mongod_runs_transactions_with_majority_writes(mongo_uri: str, database: str):
    with client_of(mongo_uri) as client:
        with client.start_session() as session, session.start_transaction():
            client[database].things.insert_one({"_id": 1}, session=session)
        assert client[database].things.count_documents({}) == 1


def test_mongod_keeps_what_it_confirmed_over_a_kill(mongo_uri: str, database: str, mongod_unit: Unit):
    with client_of(mongo_uri) as client:
        client[database].things.insert_one({"_id": 1})
    mongod_unit.kill()
    mongod_unit.start()
    with client_of(mongo_uri) as client:
        assert client[database].things.count_documents({}) == 1


async def test_a_vhost_is_fresh_and_takes_quorum_queues(vhost: str):
    connection = await aio_pika.connect(vhost)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("q", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"one"), "q")
        message = await queue.get(timeout=5)
        assert message is not None
        assert message.body == b"one"
        await message.ack()


async def test_the_broker_keeps_confirmed_messages_over_a_kill(farm: Farm, vhost: str, rabbitmq_unit: Unit):
    connection = await aio_pika.connect(vhost)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue("q", durable=True, arguments={"x-queue-type": "quorum"})
        persistent = aio_pika.Message(b"one", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(persistent, "q")
    farm.await_queues()
    rabbitmq_unit.kill()
    rabbitmq_unit.start()
    connection = await aio_pika.connect(vhost)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("q", passive=True)
        message = await queue.get(timeout=10)
        assert message is not None
        assert message.body == b"one"
        await message.ack()


def test_records_are_published_and_removed_by_dynamic_update(named: Nameserver):
    name = "host.scratch.test"
    assert ask(named, name, "TXT").rcode() == dns.rcode.NXDOMAIN
    named.update(name, "TXT", ["first", "second" * 60])
    assert sorted(len(record.strings) for record in ask(named, name, "TXT").answer[0]) == [1, 2]
    named.update(name, "TXT", [])
    assert ask(named, name, "TXT").rcode() == dns.rcode.NXDOMAIN


def test_negative_answers_live_two_seconds_and_strange_zones_are_refused(named: Nameserver):
    authority = ask(named, "nobody.demo.test", "TXT").authority[0]
    assert authority.rdtype == dns.rdatatype.SOA
    assert authority[0].minimum == 2
    assert ask(named, "example.org", "TXT").rcode() == dns.rcode.REFUSED


def test_the_zone_names_its_server_and_the_server_its_address(named: Nameserver):
    target = ask(named, "demo.test", "NS").answer[0][0].target.to_text()
    assert ask(named, target, "A").answer[0][0].address == "127.0.0.1"


def test_the_next_hop_keeps_one_file_for_each_message(smtp_sink: SmtpSink):
    for number in range(3):
        smtp_send(smtp_sink.host, smtp_sink.port, "a@client.test", [f"u{number}@demo.test"])
    assert eventually(lambda: len(smtp_sink.messages()) == 3)
    kept = b"".join(file.read_bytes() for file in smtp_sink.messages())
    assert all(b"X-Rcpt-Args: <u%d@demo.test>" % number in kept for number in range(3))


def test_a_next_hop_can_refuse_recipients(sinks: Callable[..., SmtpSink]):
    sink = sinks("-r", "rcpt")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        smtp_send(sink.host, sink.port, "a@client.test", ["u@demo.test"])


def test_a_dialogue_reads_replies_of_several_lines(smtp_sink: SmtpSink):
    with Dialogue(smtp_sink.host, smtp_sink.port) as talk:
        assert talk.greet().code == 250
        assert talk.command("MAIL FROM:<a@client.test>").enhanced == "2.1.0"
        talk.command("QUIT", 221)
        assert talk.closed()
