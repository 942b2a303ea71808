"""The record of TLS results in the database: added to by several edges, bounded, kept over outages and stops (SPEC
R11, RFC 8460).
"""

import asyncio
import secrets
import smtplib
from datetime import UTC, datetime

import pytest

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.tls_result_documents import MOST_FAILURES
from postern_edge.rules.tls_policy import NO_STARTTLS, Reported
from postern_edge.rules.tls_tally import document_id
from postern_edge.tls_out.counts import TlsCounts
from postern_edge.tls_out.store import TlsResultStore
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.servers.edge_inside import DOMAIN, InsideEdge, message, server, settled
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.stack import Stack
from tests.servers.stored import connect
from tests.servers.waiting import eventually_async

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ENDS = ("192.0.2.1", "198.51.100.1")
STS = Reported("a.test", "sts", ("version: STSv1", "mode: enforce"), ("mx.a.test",))


@pytest.fixture
async def mongo(mongo_uri, database):
    client = connect(mongo_uri, database)
    await client.ensure_indexes()
    yield client
    await client.close_direct()
    client.close()


def counts(mongo):
    return TlsCounts(TlsResultStore(mongo), lambda: NOW)


async def stored(mongo, **query):
    return await mongo.db[Collections.TLS_RESULTS.value].find(query).sort("_id", 1).to_list(None)


@pytest.mark.spec("R11")
async def test_what_edges_count_is_added_up_in_one_document_a_day_domain_and_policy(mongo):
    edges = [counts(mongo) for _ in range(8)]
    for edge in edges:
        for _ in range(3):
            edge.add(STS, None, "mx.a.test", ENDS)
        edge.add(STS, NO_STARTTLS, "mx.a.test", ENDS)
        edge.add(Reported("b.test"), None, "mx.b.test", ENDS)
    for _ in range(2):  # counted once, however often it is written
        await asyncio.gather(*(edge.flush() for edge in edges))
    first, second = await stored(mongo)
    assert first["_id"].startswith("2026-11-28|a.test|sts|")
    assert (first["successes"], [one["count"] for one in first["failures"].values()]) == (24, [8])
    assert (first["policy_string"], first["mx_host"]) == (list(STS.policy_string), list(STS.mx_host))
    assert first["expires_at"] == datetime(2026, 12, 8, tzinfo=UTC)
    assert (second["policy_type"], second["successes"], second["failures"]) == ("no-policy-found", 8, {})


@pytest.mark.spec("R11")
async def test_a_document_tells_so_many_kinds_of_failure_apart_and_counts_all(mongo):
    edge = counts(mongo)
    for day in range(3):
        for number in range(MOST_FAILURES - 10):
            edge.add(STS, NO_STARTTLS, f"mx{day}-{number}.a.test", ENDS)
        await edge.flush()
    [found] = await stored(mongo)
    assert len(found["failures"]) == MOST_FAILURES + 1
    assert sum(one["count"] for one in found["failures"].values()) == 3 * (MOST_FAILURES - 10)


@pytest.mark.spec("R11")
async def test_what_is_counted_while_the_database_is_away_is_written_when_it_is_back(mongo, mongod_unit):
    edge = counts(mongo)
    edge.add(STS, None, "mx.a.test", ENDS)
    mongod_unit.kill()
    with pytest.raises(Temporary):
        await edge.flush()
    edge.add(STS, None, "mx.a.test", ENDS)
    mongod_unit.start()

    async def is_written():
        try:
            await edge.flush()
        except Temporary:
            return False
        return True

    await eventually_async(is_written, timeout=30)
    [found] = await stored(mongo)
    assert found["successes"] == 2


@pytest.mark.spec("R11")
async def test_a_result_that_the_database_refuses_stops_neither_the_edge_nor_the_others(mongo):
    edge = counts(mongo)
    broken, sound = Reported("a.test"), Reported("b.test")
    key = document_id(("2026-11-28", broken))
    await mongo.db[Collections.TLS_RESULTS.value].insert_one({"_id": key, "successes": "no number"})
    for reported in (broken, sound):
        edge.add(reported, None, "mx.a.test", ENDS)
    await edge.flush()
    await edge.flush()
    [found] = await stored(mongo, policy_domain="b.test")
    assert found["successes"] == 1


@pytest.mark.spec("R11")
async def test_old_results_and_ended_policies_are_removed_by_the_database(mongo):
    for name in (Collections.TLS_RESULTS, Collections.STS_POLICIES):
        indexes = await mongo.db[name.value].index_information()
        assert indexes["expires_at_1"]["expireAfterSeconds"] == 0


@pytest.mark.spec("R11")
async def test_next_hops_that_a_setting_names_cost_no_look_up_and_are_not_counted(mongo_uri, database, vhost, hop):
    edge = InsideEdge(mongo_uri, database, vhost, dns_servers="127.0.0.1:9")  # nobody answers there
    await edge.seed(server(hop))
    await edge.start()
    await edge.edge.spool.accept(message())
    await settled(edge)
    await edge.edge.tls_counts.flush()
    assert len(hop.messages) == 1
    assert edge.edge.resolver._kept == {}
    assert await edge.raw(Collections.TLS_RESULTS).count_documents({}) == 0
    await edge.close()


@pytest.mark.spec("R11")
async def test_an_edge_that_stops_in_order_writes_what_it_counted(farm, named):
    refusing = await FakeHop(replies={"RCPT": "550 5.1.1 no such user"}).start()
    exchanger = await FakeHop().start()
    around = Stack(farm, settings={"POSTERN_EDGE_MX_PORT": str(exchanger.port)})
    service = around.surroundings.service("edge", f"edge-{secrets.token_hex(3)}", *free_ports(1))
    unit = Unit(service, farm.processes)
    world = InsideEdge(farm.mongo_uri(), around.database, farm.amqp_url())
    await world.mongo.prepare()
    await world.seed(refusing)
    domain = f"{secrets.token_hex(4)}.scratch.test"
    named.update(domain, "A", ["127.0.0.1"])
    await asyncio.to_thread(unit.start)

    def send():
        with smtplib.SMTP("127.0.0.1", int(service.env["POSTERN_EDGE_PORT"]), timeout=20) as client:
            client.sendmail(f"bob@{domain}", [f"ann@{DOMAIN}"], b"Subject: Hello\r\n\r\nHello.\r\n")

    async def is_taken():
        try:
            await asyncio.to_thread(send)
        except (OSError, smtplib.SMTPException):
            return False
        return True

    await eventually_async(is_taken, timeout=30)
    await eventually_async(lambda: exchanger.messages)
    await asyncio.to_thread(unit.stop)
    [found] = await stored(world.mongo, policy_domain=domain)
    [failure] = found["failures"].values()
    assert failure["result_type"] == "starttls-not-supported"
    assert (failure["receiving_mx_hostname"], failure["receiving_ip"]) == (domain, "127.0.0.1")
    assert failure["count"] == exchanger.connections
    await world.close()
    around.close()
    for one in (refusing, exchanger):
        await one.stop()
