"""One customer's servers that do not answer slow down nobody else's mail."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from postern_common.documents import Collections
from tests.servers.edge_inside import InsideEdge, message, server, settled
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.waiting import eventually_async

HANGING = "cus_hanging"


@pytest.fixture
async def hole():
    """Takes connections at every loopback address and says nothing."""
    held = []

    async def swallow(reader, writer):
        held.append(writer)
        await reader.read()

    listening = await asyncio.start_server(swallow, "0.0.0.0", 0, backlog=2000)
    yield SimpleNamespace(port=listening.sockets[0].getsockname()[1], held=held)
    listening.close()
    for writer in held:
        writer.close()


@pytest.fixture
async def edge(mongo_uri, database, vhost):
    inside = InsideEdge(mongo_uri, database, vhost, edge_connect_timeout_seconds=60.0)
    yield inside
    await inside.close()


def hanging(hole, number):
    return server(SimpleNamespace(host=f"127.1.{number // 250}.{number % 250 + 1}", port=hole.port))


async def hang(edge, hole, count, customers=1):
    """Customers whose domains each have a server of their own that never answers; a message to each."""
    for number in range(customers):
        await edge.seed(customer=f"{HANGING}{number}", domain=f"none{number}.test")
    domains, sites = [], []
    for number in range(count):
        name, customer = f"d{number}.test", f"{HANGING}{number % customers}"
        sites.append({"_id": f"sit_{number}", "customer_id": customer, "is_default": False})
        sites[-1]["servers"] = [hanging(hole, number)]
        domains.append({"_id": f"dom_{number}", "customer_id": customer, "name": name, "state": "verified"})
        domains[-1]["site_id"] = f"sit_{number}"
    await edge.raw(Collections.SITES).insert_many(sites)
    await edge.raw(Collections.DOMAINS).insert_many(domains)
    await edge.start()
    mails = [message([f"ann@d{number}.test"], customer=f"{HANGING}{number % customers}") for number in range(count)]
    await asyncio.gather(*(edge.edge.spool.accept(mail) for mail in mails))


@pytest.mark.spec("R3", "R5")
@pytest.mark.parametrize("customers", [1, 40])
async def test_a_thousand_dead_next_hops_hold_up_no_other_customers_mail(edge, hop, hole, customers):
    await edge.seed(hop)
    await hang(edge, hole, 1000, customers)
    most = 25 if customers == 1 else 100
    await eventually_async(lambda: len(hole.held) >= most, timeout=20)
    began = time.monotonic()
    for _ in range(50):
        await edge.edge.spool.accept(message())
    await eventually_async(lambda: len(hop.messages) == 50, timeout=20)
    # Where many customers hang, a server that nobody knows yet waits for the first of them to be given up.
    assert time.monotonic() - began < (5 if customers == 1 else 12)

    async def all_done():
        return len(await edge.documents(state="done")) == 50

    await eventually_async(all_done)


@pytest.mark.spec("R3")
async def test_a_server_gets_more_connections_as_it_takes_mail(edge, hop):
    hop.delays["DATA"] = 0.2
    await edge.seed(hop)
    await edge.start()
    await asyncio.gather(*(edge.edge.spool.accept(message()) for _ in range(60)))
    await eventually_async(lambda: hop.connections == 2)
    await settled(edge)
    assert 10 < hop.connections <= 20
    assert len(hop.messages) == 60
