"""Connections that a load balancer hands on with a PROXY header, version 1 or 2."""

import asyncio
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postern_edge.inbound.connect import ConnectionLimits
from postern_edge.inbound.proxy_header import V2_LONGEST, BadHeader, Client, header_end, parse
from postern_edge.limits import Limits
from tests.servers.edge_fakes import edge_listener

MESSAGE = b"Subject: hi\r\n\r\nbody\r\n.\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_1(address="192.0.2.7", port=4711):
    kind = "TCP6" if ":" in address else "TCP4"
    there = "2001:db8::25" if ":" in address else "198.51.100.25"
    return f"PROXY {kind} {address} {there} {port} 25\r\n".encode()


def version_2(address="192.0.2.7", port=4711, *, command=0x21, protocol=1, tlv=b""):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    number = (0x20 if ":" in address else 0x10) + protocol
    both = socket.inet_pton(family, address) * 2 + struct.pack("!HH", port, 25) + tlv
    return SIGNATURE + struct.pack("!BBH", command, number, len(both)) + both


LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)


@pytest.fixture
async def behind():
    async with edge_listener(balancers="127.0.0.0/8", connections=ConnectionLimits(10, 1)) as edge:
        yield edge


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("header", [version_1, version_2])
async def test_the_client_is_who_the_balancer_says(behind, header, address):
    client = await behind.connect(greeted=False)
    await client.send(header(address))
    assert (await client.reply()).startswith("220 ")
    assert (await client.say("EHLO client.test")).startswith("250")
    await client.ready_for_data()
    await client.send(MESSAGE)
    assert (await client.reply()).startswith("250 2.0.0 OK")
    (message,) = behind.spool.messages
    assert message.peer_ip == address
    assert address.encode() in message.body.partition(b"\r\n\r\n")[0]


async def test_a_header_in_pieces_with_an_early_talker_behind_it_loses_no_octet(behind):
    client = await behind.connect(greeted=False)
    await client.send(version_2(tlv=b"\x02\x00\x04test") + b"EHLO client.test\r\n", step=1)
    assert (await client.reply()).startswith("220 ")
    assert (await client.reply()).startswith("250")


async def test_connections_are_counted_by_the_client_and_not_by_the_balancer(behind):
    answers = []
    for address in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
        client = await behind.connect(greeted=False)
        await client.send(version_1(address))
        answers.append((await client.reply())[:3])
    assert answers == ["220", "220", "421"]


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
async def test_a_balancer_that_speaks_for_itself_is_greeted_as_itself(behind, header):
    client = await behind.connect(greeted=False)
    await client.send(header)
    assert (await client.reply()).startswith("220 ")
    await client.close()
    await behind.wait_for_sessions()
    assert behind.port.taken == 0


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.test\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 999.0.2.7 198.51.100.25 1 25\r\n",
        b"PROXY " + b"x" * 200,
        version_2(protocol=2),
        version_2(command=0x31),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 4) + b"\x01\x02\x03\x04",
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 65535),
    ],
)
async def test_a_balancer_that_sends_anything_else_is_cut_off_without_a_word(behind, header):
    client = await behind.connect(greeted=False)
    await client.send(header)
    assert await client.is_closed()
    await behind.wait_for_sessions()


async def test_a_balancer_that_sends_nothing_is_cut_off_in_time():
    async with edge_listener(Limits(proxy_seconds=0.1), balancers="127.0.0.0/8") as edge:
        client = await edge.connect(greeted=False)
        assert await client.is_closed()
        await edge.wait_for_sessions()


@pytest.mark.spec("F5")
async def test_nobody_elses_header_is_believed():
    async with edge_listener(balancers="192.0.2.0/24") as edge:
        client = await edge.connect()
        await client.send(version_1("203.0.113.9"))
        assert not (await client.reply()).startswith("2")
        assert edge.spool.messages == []


@settings(max_examples=300)
@given(st.binary(max_size=64), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x0c"]))
def test_no_octets_make_the_reader_fail_otherwise(octets, begin):
    data = begin + octets
    try:
        end = header_end(data)
        assert end is None or end <= len(data)
        found = None if end is None else parse(data[:end])
    except BadHeader:
        return
    assert found is None or isinstance(found, Client)
    assert end is not None or len(data) < V2_LONGEST


async def test_a_connection_that_ends_within_the_header_leaves_nothing(behind):
    client = await behind.connect(greeted=False)
    await client.send(b"PROXY TCP4 ")
    await asyncio.sleep(0.05)
    await client.close()
    await behind.wait_for_sessions()
    assert behind.port.taken == 0
