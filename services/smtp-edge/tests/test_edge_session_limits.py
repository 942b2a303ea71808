"""Limits of sessions and connections, and what is told when one is reached."""

import asyncio
import contextlib
from dataclasses import replace

import prometheus_client
import pytest
import structlog
import structlog.testing

from postern_edge import metrics
from postern_edge.inbound.connect import ConnectionLimits
from postern_edge.limits import Limits
from tests.servers.edge_fakes import edge_listener

MESSAGE = b"Subject: hello\r\nMessage-ID: <1@far.test>\r\n\r\nbody\r\n"


@pytest.fixture
async def edge():
    async with edge_listener() as listener:
        yield listener


@pytest.mark.parametrize("limit", ["recipients", "messages", "bad_commands", "errors", "idle_commands", "commands"])
async def test_limits_of_a_session(limit):
    async with edge_listener(replace(Limits(), **{limit: 3})) as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        command, last = {
            "recipients": ("RCPT TO:<a{}@example.test>", "452 4.5.3"),
            "messages": ("MAIL FROM:<a@far.test>", "421 4.7.0"),
            "bad_commands": ("FROB", "421 4.7.0"),
            "errors": ("RCPT TO:<a@unknown.test>", "421 4.7.0"),
            "idle_commands": ("NOOP", "421 4.7.0"),
            "commands": ("RCPT TO:<a@pending.test>", "421 4.7.0"),
        }[limit]
        if limit == "messages":
            for _ in range(3):
                await client.ready_for_data()
                await client.send(MESSAGE + b".\r\n")
                assert (await client.reply()).startswith("250 ")
            assert (await client.say(command)).startswith(last)
            return
        await client.say("MAIL FROM:<a@far.test>")
        replies = [""]
        for number in range(6):
            with contextlib.suppress(OSError):
                replies.append(await client.say(command.format(number)))
        assert any(reply.startswith(last) for reply in replies)
        assert (limit == "recipients") == (replies[-1] != "")


@pytest.mark.spec("F5")
async def test_connections_past_the_limits_are_told_so():
    async with edge_listener(connections=ConnectionLimits(total=10, per_address=2)) as edge:
        await edge.connect()
        second = await edge.connect()
        third = await edge.connect(greeted=False)
        assert (await third.reply()).startswith("421 4.7.0")
        assert await third.is_closed()
        await third.close()
        await second.say("QUIT")
        await second.close()
        await edge.wait_for_sessions(1)
        await edge.connect()


@pytest.mark.spec("R13")
async def test_customers_with_other_size_limits(edge):
    client = await edge.connect()
    await client.say("EHLO x")
    await client.say("MAIL FROM:<a@far.test> SIZE=3000")
    assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")
    assert (await client.say("RCPT TO:<ann@small.test>")).startswith("552 5.3.4")
    await client.say("RSET")
    await client.say("MAIL FROM:<a@far.test>")
    assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")
    assert (await client.say("RCPT TO:<ann@small.test>")).startswith("452 4.5.3")
    await client.say("RSET")
    await client.say("MAIL FROM:<a@far.test> SIZE=1000")
    assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")
    assert (await client.say("RCPT TO:<ann@small.test>")).startswith("250 ")
    await client.say("DATA")
    await client.send(b"x\r\n" * 1000 + b".\r\n")  # the declared size was a lie
    assert (await client.reply()).startswith("552 5.3.4")
    assert edge.spool.messages == []


@pytest.mark.spec("F5")
async def test_a_flood_from_one_address_shuts_out_nobody_else():
    async with edge_listener(connections=ConnectionLimits(total=3, per_address=1)) as edge:
        await edge.connect()
        for _ in range(5):
            assert (await (await edge.connect(greeted=False)).reply()).startswith("421 4.7.0 Too many connections from")
        assert edge.port.taken == 1


async def test_hook_may_take_its_time_and_commands_wait_for_it(edge):
    async def slowly(reply):
        await asyncio.sleep(0.05)
        return reply

    async def broken():
        await asyncio.sleep(0.01)
        raise RuntimeError("resolver")

    handler = edge.port.handler
    rcpt = handler.handle_RCPT
    handler.handle_RCPT = lambda *arguments: slowly(rcpt(*arguments))
    client = await edge.connect()
    await client.say("EHLO x")
    await client.send(b"MAIL FROM:<a@far.test>\r\nRCPT TO:<ann@example.test>\r\nRCPT TO:<x@unknown.test>\r\nNOOP\r\n")
    assert [(await client.reply())[:9] for _ in range(4)] == ["250 2.1.0", "250 2.1.5", "550 5.7.1", "250 2.0.0"]
    handler.handle_RCPT = lambda *arguments: broken()
    assert (await client.say("RCPT TO:<ann@example.test>")).startswith("451 4.3.0")


async def test_surprise_is_logged_under_an_id_and_told_to_nobody(edge):
    client = await edge.connect()
    await client.say("EHLO x")
    await client.say("MAIL FROM:<a@far.test>")
    with structlog.testing.capture_logs() as logs:
        answer = await client.say("RCPT TO:<broken@example.test>")
    (entry,) = logs
    assert entry["event"] == "session_failed"
    assert entry["error_id"].startswith("err_")
    assert entry["error_id"] not in answer


async def test_what_is_logged_and_counted_of_a_message_names_no_address(edge):
    client = await edge.connect()
    with structlog.testing.capture_logs() as logs:
        await client.ready_for_data()
        await client.send(MESSAGE + b".\r\n")
        await client.reply()
        await client.ready_for_data("ann@strict.test")
        await client.send(b"a\0" + MESSAGE + b".\r\n")
        await client.reply()
    assert [entry["event"] for entry in logs] == ["message_accepted", "message_refused"]
    metrics.publish()
    exported = prometheus_client.generate_latest().decode()
    assert 'postern_edge_commands_total{class="2xx",verb="MAIL"}' in exported
    for secret in ("ann@", "far.test", "example.test", "cus_1", "hello"):
        assert secret not in exported
        assert secret not in str(logs)
