"""The inbound port over real sockets: the dialogue, its limits and its surprises."""

import asyncio
import contextlib
from dataclasses import replace

import prometheus_client
import pytest
import structlog
import structlog.testing

from postern_common.errors import Temporary
from postern_edge import metrics
from postern_edge.inbound.connect import ConnectionLimits
from postern_edge.interfaces import SpoolFull
from postern_edge.limits import Limits
from tests.servers.edge_fakes import edge_listener

MESSAGE = b"Subject: hello\r\nMessage-ID: <1@far.test>\r\n\r\nbody\r\n"


@pytest.fixture
async def edge():
    async with edge_listener() as listener:
        yield listener


@pytest.mark.spec("R4")
async def test_message_is_taken_with_everything_that_was_said(edge):
    client = await edge.connect()
    assert (await client.say("EHLO client.test")).split("\n")[0] == "250-mx.postern.test"
    await client.say("MAIL FROM:<Sender@far.test> SIZE=60 BODY=8BITMIME RET=HDRS ENVID=e1")
    await client.say("RCPT TO:<Ann+x@Example.TEST> NOTIFY=FAILURE ORCPT=rfc822;a@b")
    await client.say("RCPT TO:<ann@strict.test>")
    assert await client.say("DATA") == "354 End data with <CR><LF>.<CR><LF>"
    await client.send(MESSAGE + b".\r\n")
    reply = await client.reply()
    (message,) = edge.spool.messages
    assert reply == f"250 2.0.0 OK: queued as {message.queue_id}"
    assert message.body.startswith(b"Received: from client.test ([127.0.0.1])\r\n\tby mx.postern.test with ESMTP id ")
    assert message.body.endswith(MESSAGE)
    assert message.size == len(message.body)
    assert (message.sender, message.helo, message.peer_ip) == ("Sender@far.test", "client.test", "127.0.0.1")
    assert (message.subject, message.message_id) == ("hello", "<1@far.test>")
    assert (message.body_type, message.ret, message.envid) == ("8BITMIME", "HDRS", "e1")
    first, second = message.recipients
    assert (first.address, first.original) == ("Ann+x@example.test", "Ann+x@Example.TEST")
    assert (first.customer_id, first.notify, first.orcpt) == ("cus_1", ("FAILURE",), "rfc822;a@b")
    assert (second.customer_id, second.user_id) == ("cus_2", "usr_ann")
    assert await client.say("QUIT") == "221 2.0.0 Bye"
    assert await client.is_closed()


async def test_extensions_that_are_offered(edge):
    client = await edge.connect()
    offered = {line[4:] for line in (await client.say("EHLO x")).split("\n")[1:]}
    assert offered == {
        "PIPELINING",
        "SIZE 52428800",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "DSN",
        "SMTPUTF8",
        "HELP",
    }


async def test_banner_tells_no_software(edge):
    client = await edge.connect(greeted=False)
    assert await client.reply() == "220 mx.postern.test ESMTP"


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("NOOP", "250 2.0.0"),
        ("noop anything", "250 2.0.0"),
        ("HELP", "214 2.0.0"),
        ("RSET", "250 2.0.0"),
        ("RSET x", "501 5.5.4"),
        ("VRFY ann", "252 2.1.5"),
        ("VRFY", "501 5.5.4"),
        ("EXPN list", "502 5.5.1"),
        ("AUTH PLAIN AGEAYg==", "502 5.5.1"),
        ("BDAT 10 LAST", "502 5.5.1"),
        ("STARTTLS", "502 5.5.1"),
        ("HELO", "501 5.5.4"),
        ("EHLO a(b)", "501 5.5.4"),
        ("EHLO [127.0.0.1]", "250-mx"),
        ("HELO x", "250 mx"),
        ("FROB", "500 5.5.1"),
        ("", "500 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("RCPT TO:<ann@example.test>", "503 5.5.1"),
        ("MAIL FROM:<a@far.test> SIZE=99999999999", "552 5.3.4"),
        ("MAIL FROM:<a@far.test> FOO=1", "555 5.5.4"),
        ("MAIL FROM:<a@far.test> BODY=BINARYMIME", "501 5.5.4"),
        ("MAIL FROM:<bjørn@far.test>", "550 5.6.7"),
        ("MAIL FROM:<bjørn@far.test> SMTPUTF8", "250 2.1.0"),
        ("MAIL FROM: <a@far.test>", "250 2.1.0"),
        ("mail from:<>", "250 2.1.0"),
        ("MAIL TO:<a@far.test>", "501 5.1.7"),
        ("NOOP " + "x" * 600, "500 5.5.2"),
        ("MAIL FROM:<" + "a" * 65 + "@far.test>", "501 5.1.7"),
        ("NOOP a\x00b", "500 5.5.2"),
    ],
)
async def test_command_and_its_reply(edge, command, reply):
    client = await edge.connect()
    await client.say("EHLO client.test")
    assert (await client.say(command)).startswith(reply)
    assert (await client.say("NOOP")).startswith("250 ")


async def test_nothing_goes_before_hello(edge):
    client = await edge.connect()
    for command in ("MAIL FROM:<a@far.test>", "RCPT TO:<a@b.test>", "DATA"):
        assert (await client.say(command)).startswith("503 5.5.1")


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        pytest.param("ann@unknown.test", "550 5.7.1", marks=pytest.mark.spec("D7")),
        pytest.param("ann@expired.test", "550 5.7.1", marks=pytest.mark.spec("D7")),
        pytest.param("ann@pending.test", "450 4.7.1", marks=pytest.mark.spec("D7")),
        pytest.param("ann@[127.0.0.1]", "550 5.7.1", marks=pytest.mark.spec("D7")),
        pytest.param("nobody@strict.test", "550 5.1.1", marks=pytest.mark.spec("R4")),
        pytest.param("postmaster@strict.test", "250 2.1.5", marks=pytest.mark.spec("R4")),
        pytest.param("postmaster", "250 2.1.5", marks=pytest.mark.spec("R4")),
        pytest.param("ANN+news@Strict.Test", "250 2.1.5", marks=pytest.mark.spec("U4")),
        pytest.param("broken@example.test", "451 4.3.0", marks=pytest.mark.spec("R4")),
    ],
)
async def test_recipient_and_its_reply(edge, recipient, reply):
    client = await edge.connect()
    await client.say("EHLO client.test")
    await client.say("MAIL FROM:<a@far.test>")
    answer = await client.say(f"RCPT TO:<{recipient}>")
    assert answer.startswith(reply)
    assert "mongodb" not in answer
    assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")


@pytest.mark.spec("R4")
async def test_unreadable_directory_puts_off(edge):
    edge.directory.readable = False
    client = await edge.connect()
    await client.say("EHLO client.test")
    await client.say("MAIL FROM:<a@far.test>")
    assert (await client.say("RCPT TO:<ann@unknown.test>")).startswith("451 4.3.0")


@pytest.mark.spec("F5")
async def test_case_49_address_without_brackets_and_null_recipient(edge):
    client = await edge.connect()
    await client.say("EHLO x")
    assert (await client.say("MAIL FROM:a@x")).startswith("501 ")
    assert (await client.say("MAIL FROM:<a@far.test>")).startswith("250 ")
    assert (await client.say("RCPT TO:<>")).startswith("501 ")
    assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")


async def test_case_50_second_sender_is_refused_and_the_first_stays(edge):
    client = await edge.connect()
    await client.say("EHLO x")
    await client.say("MAIL FROM:<first@far.test>")
    await client.say("RCPT TO:<ann@example.test>")
    assert (await client.say("MAIL FROM:<second@far.test>")).startswith("503 ")
    await client.say("DATA")
    await client.send(MESSAGE + b".\r\n")
    await client.reply()
    assert edge.spool.messages[0].sender == "first@far.test"


@pytest.mark.spec("F5")
async def test_case_51_pipelined_group_with_a_refused_recipient(edge):
    client = await edge.connect()
    await client.say("EHLO x")
    await client.send(b"MAIL FROM:<a@far.test>\r\nRCPT TO:<x@unknown.test>\r\nDATA\r\n")
    assert [(await client.reply())[:3] for _ in range(3)] == ["250", "550", "503"]
    assert (await client.say("RSET")).startswith("250 ")
    assert edge.spool.messages == []


async def test_case_56_domain_ignores_case(edge):
    client = await edge.connect()
    await client.ready_for_data("u@EXAMPLE.Test")


async def test_pipelined_commands_are_answered_together(edge):
    client = await edge.connect()
    await client.say("EHLO x")
    await client.send(b"NOOP\r\nRSET\r\nMAIL FROM:<a@far.test>\r\nRCPT TO:<ann@example.test>\r\nDATA\r\n")
    replies = await asyncio.wait_for(client.reader.readuntil(b"354 End data with <CR><LF>.<CR><LF>\r\n"), 5)
    assert replies.count(b"\r\n") == 5
    await client.send(MESSAGE + b".\r\nMAIL FROM:<b@far.test>\r\nQUIT\r\n")
    assert (await client.reply()).startswith("250 2.0.0 OK: queued")
    assert (await client.reply()).startswith("250 2.1.0")
    assert (await client.reply()).startswith("221 ")
    assert await client.is_closed()


@pytest.mark.spec("F5")
async def test_message_pipelined_before_354_is_refused(edge):
    client = await edge.connect()
    await client.say("EHLO x")
    await client.send(b"MAIL FROM:<a@far.test>\r\nRCPT TO:<ann@example.test>\r\nDATA\r\n" + MESSAGE + b".\r\n")
    assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "554"]
    assert await client.is_closed()
    assert edge.spool.messages == []


async def test_dialogue_a_single_octet_at_a_time(edge):
    client = await edge.connect()
    dialogue = b"EHLO x\r\nMAIL FROM:<a@far.test>\r\nRCPT TO:<ann@example.test>\r\n"
    await client.send(dialogue, step=1)
    assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "250"]
    await client.say("DATA")
    await client.send(MESSAGE + b"..dot\r\n.\r\nRSET\r\n", step=1)
    assert (await client.reply()).startswith("250 2.0.0 OK")
    assert (await client.reply()).startswith("250 2.0.0 Reset")
    assert edge.spool.messages[0].body.endswith(MESSAGE + b".dot\r\n")


async def test_client_that_shuts_its_side_after_the_message_still_gets_the_reply(edge):
    edge.spool.gate = asyncio.Event()
    client = await edge.connect()
    await client.ready_for_data()
    await client.send(MESSAGE + b".\r\n")
    client.writer.write_eof()
    await asyncio.sleep(0.05)
    edge.spool.gate.set()
    assert (await client.reply()).startswith("250 2.0.0 OK")


@pytest.mark.spec("R4")
async def test_250_waits_for_the_spool(edge):
    edge.spool.gate = asyncio.Event()
    client = await edge.connect()
    await client.ready_for_data()
    await client.send(MESSAGE + b".\r\nNOOP\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.readline(), 0.1)
    edge.spool.gate.set()
    assert (await client.reply()).startswith("250 2.0.0 OK: queued")
    assert (await client.reply()) == "250 2.0.0 OK"


@pytest.mark.spec("R4")
@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (Temporary("mongodb://user:pw@db is down"), "451 4.3.0"),
        (SpoolFull("disk"), "452 4.3.1"),
        (RuntimeError("mongodb://user:pw@db is down"), "451 4.3.0"),
    ],
)
async def test_failing_spool_is_temporary_and_tells_nothing(edge, failure, reply):
    edge.spool.failure = failure
    client = await edge.connect()
    await client.ready_for_data()
    await client.send(MESSAGE + b".\r\n")
    answer = await client.reply()
    assert answer.startswith(reply)
    assert "mongodb" not in answer
    edge.spool.failure = None
    await client.ready_for_data()
    await client.send(MESSAGE + b".\r\n")
    assert (await client.reply()).startswith("250 2.0.0 OK")


async def test_half_a_message_leaves_nothing(edge):
    client = await edge.connect()
    await client.ready_for_data()
    await client.send(MESSAGE)
    await client.close()
    await edge.wait_for_sessions()
    assert edge.spool.messages == []
    assert edge.port.budget.used == 0


@pytest.mark.spec("R4")
async def test_looping_message_is_refused(edge):
    client = await edge.connect()
    await client.ready_for_data()
    await client.send(b"Received: from a by b; now\r\n" * 101 + MESSAGE + b".\r\n")
    assert (await client.reply()).startswith("554 5.4.6")
    await client.ready_for_data()
    await client.send(b"Received: from a by b; now\r\n" * 100 + MESSAGE + b".\r\n")
    assert (await client.reply()).startswith("250 2.0.0")


async def test_recipient_given_twice_is_kept_once(edge):
    client = await edge.connect()
    await client.say("EHLO x")
    await client.say("MAIL FROM:<a@far.test>")
    for _ in range(2):
        assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")
    await client.say("DATA")
    await client.send(MESSAGE + b".\r\n")
    await client.reply()
    assert len(edge.spool.messages[0].recipients) == 1


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
