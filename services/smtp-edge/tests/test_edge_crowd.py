"""When all connections are taken, the client that got nowhere for longest makes way, and no other (SPEC F5)."""

import asyncio
from dataclasses import dataclass, replace

import pytest
import trustme

from postern_edge.inbound.connect import ConnectionLimits
from postern_edge.inbound.crowd import BATCH, Crowd
from postern_edge.limits import Limits
from tests.servers.edge_fakes import edge_listener
from tests.servers.waiting import eventually_async

pytestmark = pytest.mark.spec("F5")

FULL = ConnectionLimits(total=3, per_address=10)
PATIENCE = 0.2
QUICK = replace(Limits(), crowd_seconds=PATIENCE)
MESSAGE = b"Subject: x\r\n\r\nx\r\n.\r\n"


@dataclass(eq=False)
class Client:
    idle_since: float
    was_refused: bool = False


def test_the_stalest_makes_way_first_and_each_once():
    clients = [Client(float(since)) for since in range(BATCH * 2)]
    crowd, left, way = Crowd(1.0), set(clients), []
    for now in range(1000, 1000 + BATCH * 2):
        found = crowd.stalest(left, float(now))
        left.discard(found)
        way.append(found)
    assert way == clients
    assert crowd.stalest(left, 2000.0) is None


def test_who_went_on_since_he_was_looked_at_is_left_alone():
    first, second = Client(1.0), Client(2.0)
    crowd = Crowd(1.0)
    assert crowd.stalest([first, second], 10.0) is first
    second.idle_since = 9.9
    assert crowd.stalest([first, second], 10.0) is None


def test_who_went_on_and_paused_again_does_not_make_way_before_those_that_stood_all_the_time():
    first, second, third, later = [Client(since) for since in (1.0, 2.0, 3.0, 50.0)]
    crowd = Crowd(1.0)
    assert crowd.stalest([first, second, third], 10.0) is first
    second.idle_since = 98.0
    assert [crowd.stalest([second, third, later], 100.0) for _ in range(3)] == [third, later, second]


def test_refused_and_busy_clients_never_make_way():
    assert Crowd(1.0).stalest([Client(1.0, was_refused=True), Client(float("inf"))], 10.0) is None


async def test_newcomer_finds_room_and_the_oldest_idle_client_is_told():
    async with edge_listener(QUICK, FULL) as edge:
        oldest, *others = [await edge.connect() for _ in range(3)]
        await asyncio.sleep(0.01)  # the loop's clock counts milliseconds
        for client in others:
            await client.say("NOOP")
        refused = await edge.connect(greeted=False)
        assert (await refused.reply()).startswith("421 4.7.0 Too many connections;")  # nobody is stale yet
        await asyncio.sleep(PATIENCE)
        newcomer = await edge.connect()
        assert (await oldest.reply()).startswith("421 4.7.0 Too many connections;")
        assert await oldest.is_closed()
        assert edge.port.taken == 3
        for client in (newcomer, *others):
            await client.ready_for_data()
            await client.send(MESSAGE)
            assert (await client.reply()).startswith("250 ")
        for client in (*others, newcomer, oldest):
            await client.close()
        await edge.wait_for_sessions()
        assert edge.port.taken == 0


async def test_dripping_message_makes_way_and_one_that_comes_at_a_fair_pace_does_not():
    async with edge_listener(QUICK, FULL) as edge:
        fair, dripping, idle = [await edge.connect() for _ in range(3)]
        for client in (fair, dripping):
            await client.ready_for_data()
        await fair.send(b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n")
        await dripping.send(b"S")
        await asyncio.sleep(PATIENCE + 0.05)
        await idle.say("NOOP")
        await edge.connect()
        assert (await dripping.reply()).startswith("421 4.7.0 Too many connections;")
        await fair.send(b".\r\n")
        assert (await fair.reply()).startswith("250 ")
        assert edge.port.budget.used == 0


async def test_client_that_waits_for_us_does_not_make_way():
    async with edge_listener(QUICK, ConnectionLimits(total=1, per_address=10)) as edge:
        edge.spool.gate = asyncio.Event()
        waiting = await edge.connect()
        await waiting.ready_for_data()
        await waiting.send(MESSAGE)
        await asyncio.sleep(PATIENCE + 0.05)
        refused = await edge.connect(greeted=False)
        assert (await refused.reply()).startswith("421 4.7.0 Too many connections;")
        edge.spool.gate.set()
        assert (await waiting.reply()).startswith("250 ")


async def test_handshake_that_does_not_go_on_makes_way(tmp_path):
    issued = trustme.CA().issue_cert("mx.postern.test")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    issued.private_key_pem.write_to_path(tmp_path / "tls.key")
    tls_files = tmp_path / "tls.crt", tmp_path / "tls.key"
    async with edge_listener(QUICK, ConnectionLimits(total=1, per_address=10), certificate=tls_files) as edge:
        hanging = await edge.connect()
        await hanging.say("EHLO x")
        await hanging.say("STARTTLS")
        await asyncio.sleep(PATIENCE + 0.05)
        await edge.connect()
        assert await hanging.is_closed()
        await eventually_async(lambda: len(edge.port.sessions) == 1)
        assert edge.port.taken == 1
