"""The inbound port over real sockets: the dialogue and its surprises."""

import asyncio

import pytest

from postern_common.errors import Temporary
from postern_edge.interfaces import SpoolFull
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
    assert (message.body_type, message.ret, message.envid) == ("7BIT", "HDRS", "e1")  # as its octets are
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
