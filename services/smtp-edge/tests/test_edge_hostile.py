"""Attacks on the inbound port: races, amplification, other people's limits, ways into a header, ends of all kinds."""

import asyncio
import contextlib
import ssl
import time
import tracemalloc
from dataclasses import replace

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from postern_edge.inbound.data import Intake
from postern_edge.limits import SPILL, Limits
from postern_edge.reader import DataReader
from postern_edge.rules.trace_headers import scan_headers
from postern_edge.session import EdgeEnvelope, EdgeSession
from postern_edge.tls import CertificateError, CertificateWatch
from tests.servers.edge_fakes import FakeSpool, edge_listener

MESSAGE = b"Subject: hello\r\n\r\nbody\r\n.\r\n"


def certificate(folder):
    """The files of a certificate and its key, and a client's context that trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert("mx.postern.test")
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return (folder / "tls.crt", folder / "tls.key"), context


@pytest.mark.spec("F5")
def test_message_in_tiny_packets_takes_no_more_memory_than_its_octets():
    reader = DataReader(SPILL, SPILL)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            reader.feed(b"ab")
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert reader.kept >= 99_000
    assert held < 3 * reader.kept


@pytest.mark.spec("R13")
async def test_upload_that_ends_while_its_client_goes_leaves_no_charge():
    async with edge_listener() as edge:
        session = EdgeSession(asyncio.get_running_loop())
        intake = Intake(edge.port, session, EdgeEnvelope(10**8), FakeSpool(), lambda: None)
        line = b"x" * 998 + b"\r\n"
        intake.feed(line * 1100)
        await asyncio.sleep(0)  # the first write is under way
        intake.feed(line * 600)
        intake.abandon()
        for _ in range(20):
            await asyncio.sleep(0)
        assert edge.port.budget.used == 0


async def test_upload_whose_store_fails_in_an_unknown_way_is_aborted():
    async with edge_listener() as edge:
        edge.spool.failure = RuntimeError("bug")
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(b"Subject: x\r\n\r\n" + (b"z" * 998 + b"\r\n") * 2000 + b".\r\n")
        assert (await client.reply()).startswith("451 4.3.0")
        assert edge.spool.uploads[0].aborted
        assert edge.port.budget.used == 0


@pytest.mark.spec("R4")
async def test_drain_begins_no_message_that_was_pipelined_behind_one_under_way():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        edge.spool.gate = asyncio.Event()
        await client.send(MESSAGE + b"MAIL FROM:<b@far.test>\r\nRCPT TO:<ann@example.test>\r\nDATA\r\n")
        await asyncio.sleep(0.05)
        draining = asyncio.create_task(edge.listener.drain(5))
        await asyncio.sleep(0.05)
        edge.spool.gate.set()
        assert (await client.reply()).startswith("250 2.0.0 OK: queued")
        assert (await client.reply()).startswith("421 4.3.2")
        assert await client.is_closed()
        await client.close()
        await asyncio.wait_for(draining, 3)


async def test_session_that_cannot_be_ended_in_peace_does_not_hinder_the_drain():
    async with edge_listener() as edge:
        first, second = await edge.connect(), await edge.connect()

        def broken():
            raise RuntimeError("transport")

        next(iter(edge.port.sessions)).drain = broken  # type: ignore[method-assign]
        await asyncio.wait_for(edge.listener.drain(5), 6)
        said = [await client.reply() for client in (first, second) if not client.reader.exception()]
        assert any(reply.startswith("421 4.3.2") for reply in said)
        assert not edge.port.sessions


@pytest.mark.spec("R13")
async def test_a_customer_without_a_limit_is_not_held_to_his_neighbours():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        await client.say("MAIL FROM:<a@far.test>")
        assert (await client.say("RCPT TO:<ann@small.test>")).startswith("250 ")
        assert (await client.say("RCPT TO:<ann@example.test>")).startswith("452 4.5.3")
        await client.say("DATA")
        await client.send(b"x\r\n" * 500 + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        (message,) = edge.spool.messages
        assert [recipient.address for recipient in message.recipients] == ["ann@small.test"]


@pytest.mark.spec("R13")
async def test_a_customers_limit_past_the_ports_counts_as_the_ports():
    async with edge_listener(replace(Limits(), max_message_bytes=1000)) as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        await client.say("MAIL FROM:<a@far.test>")
        assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")
        assert (await client.say("RCPT TO:<ann@small.test>")).startswith("250 ")


@pytest.mark.spec("R13")
async def test_message_far_past_a_customers_limit_is_waited_out_like_any_other():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data("ann@small.test")
        await client.send(b"x\r\n" * 20_000 + b".\r\n")
        assert (await client.reply()).startswith("552 5.3.4")
        assert (await client.say("NOOP")).startswith("250 ")


@pytest.mark.spec("R13")
@pytest.mark.parametrize(("more", "reply"), [(-1, "250 "), (0, "250 "), (1, "552 5.3.4")])
async def test_message_at_the_limit(more, reply):
    async with edge_listener(replace(Limits(), max_message_bytes=100_000)) as edge:
        client = await edge.connect()
        await client.ready_for_data()
        head = b"Subject: x\r\n\r\n"
        line = b"." + b"x" * 997 + b"\r\n"  # stuffed below: the stuffing is not the message's
        body = head + line * 99
        body += b"y" * (100_000 + more - len(body) - 2) + b"\r\n"
        await client.send(body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert (await client.reply()).startswith(reply)
        assert all(message.body.endswith(body) for message in edge.spool.messages)
        assert (await client.say("NOOP")).startswith("250 ")


@pytest.mark.spec("R4")
@pytest.mark.parametrize("local", ["postmaster", "POSTMASTER", "Abuse", '"postmaster"', '"post\\master"'])
async def test_postmaster_is_taken_however_it_is_written(local):
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        await client.say("MAIL FROM:<>")
        assert (await client.say(f"RCPT TO:<{local}@strict.test>")).startswith("250 2.1.5")


@pytest.mark.spec("F5")
@pytest.mark.parametrize(
    "name", ["x\tby y", "\u00a0x", "(comment)", "a;b", "héllo.test", "x" * 256, "<x>", 'a"b', "a\\b"]
)
async def test_no_hello_name_gets_into_a_header_that_is_no_name(name):
    async with edge_listener() as edge:
        client = await edge.connect()
        assert (await client.say("EHLO first.test")).startswith("250-")
        await client.send(f"EHLO {name}\r\n".encode())
        assert (await client.reply())[:3] in {"501", "500"}
        await client.send(b"RSET\r\n")
        while not (await client.reply()).startswith("250 "):
            pass
        await client.say("MAIL FROM:<a@far.test>")
        await client.say("RCPT TO:<ann@example.test>")
        await client.say("DATA")
        await client.send(MESSAGE)
        await client.reply()
        assert edge.spool.messages[0].helo == "first.test"


@pytest.mark.spec("F5")
@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ('"a\r\n b"@example.test', "501"),
        ('"a\tb"@example.test', "501"),
        ('"a b>c"@example.test', "250"),
        ('"a@b"@example.test', "250"),
        ('"\\""@example.test', "250"),
        ('"a@example.test', "501"),
        ("a b@example.test", "501"),
        ("a@example.test,b@example.test", "501"),
        ("a@example.test>\x0b", "501"),
        ("a@-example.test", "501"),
        ("a@example..test", "501"),
        ("a@[127.0.0.1", "501"),
        ("@far.test:a@example.test", "250"),
        ("a%far.test@example.test", "250"),
        ("far.test!a@example.test", "250"),
        ("a" * 65 + "@example.test", "501"),
        ("a@" + "x." * 130 + "test", "501"),
        ("a@example.test> " + "X" * 1900, "555"),
    ],
)
async def test_recipients_that_look_for_a_way_in(recipient, reply):
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        await client.say("MAIL FROM:<a@far.test>")
        closing = "" if recipient.endswith(("\x0b", "X")) else ">"
        await client.send(f"RCPT TO:<{recipient}{closing}\r\n".encode())
        assert (await client.reply())[:3] in {reply, "500"}
        if reply == "250":
            await client.say("DATA")
            await client.send(MESSAGE)
            await client.reply()
            (message,) = edge.spool.messages
            head = message.body.partition(b"Subject:")[0]
            assert head.count(b"\r\n") == 4
            assert b"\r\n" not in head.replace(b"\r\n\t", b"")[:-2]
            assert message.recipients[0].address.endswith("@example.test")


@pytest.mark.spec("F5")
@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("RCPT TO:<ann@bücher.test>", "553 5.6.7"),
        ("RCPT TO:<änn@example.test>", "553 5.6.7"),
        ("RCPT TO:<ann@xn--bcher-kva.test>", "250 2.1.5"),
    ],
)
async def test_international_recipient_needs_smtputf8(command, reply):
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        await client.say("MAIL FROM:<a@far.test>")
        assert (await client.say(command)).startswith(reply)
        await client.say("RSET")
        await client.say("MAIL FROM:<a@far.test> SMTPUTF8")
        assert (await client.say(command)).startswith("250 ")
        await client.say("DATA")
        await client.send(MESSAGE)
        assert (await client.reply()).startswith("250 ")
        assert b" with UTF8SMTP id " in edge.spool.messages[0].body


@pytest.mark.spec("R4")
@pytest.mark.parametrize(("odd", "kind"), [(b"\xff", "8BITMIME"), (b"x", "7BIT")])
@pytest.mark.parametrize("place", [0, 1500, 2999])
async def test_case_63_streamed_body_is_known_for_eight_bit_by_its_octets(odd, kind, place):
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data(parameters=" BODY=8BITMIME" if kind == "7BIT" else "")
        lines = [b"x" * 998 + b"\r\n"] * 3000
        lines[place] = odd + b"\r\n"
        for start in range(0, 3000, 100):
            await client.send(b"".join(lines[start : start + 100]).replace(b"\r\n", b"\r\n\r\n", 1))
        await client.send(b".\r\n")
        assert (await client.reply()).startswith("250 ")
        (message,) = edge.spool.messages
        assert message.stored_body is not None
        assert message.body_type == kind


async def test_eight_bit_body_passes_unchanged_without_being_declared():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        body = b"Subject: \xff\xfe\r\n\r\n" + bytes(set(range(1, 256)) - {10, 13}) + b"\r\n"
        await client.send(body + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        assert edge.spool.messages[0].body.endswith(body)


@pytest.mark.spec("F5")
async def test_hello_and_rset_in_the_middle_forget_the_transaction():
    async with edge_listener() as edge:
        client = await edge.connect()
        for forget in ("EHLO y", "HELO y", "RSET"):
            await client.say("EHLO x")
            await client.say("MAIL FROM:<a@far.test>")
            await client.say("RCPT TO:<ann@example.test>")
            await client.say(forget)
            assert (await client.say("DATA")).startswith("503 5.5.1")
            assert (await client.say("RCPT TO:<ann@example.test>")).startswith("503 5.5.1")


@pytest.mark.spec("F5")
async def test_five_hundred_recipients_and_not_one_more():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        commands = b"".join(b"RCPT TO:<u%d@example.test>\r\n" % number for number in range(502))
        await client.send(b"MAIL FROM:<a@far.test>\r\n" + commands + b"DATA\r\n")
        codes = [(await client.reply())[:9] for _ in range(504)]
        assert codes.count("250 2.1.5") == 500
        assert codes.count("452 4.5.3") == 2
        assert codes[-1].startswith("354")
        await client.send(MESSAGE)
        assert (await client.reply()).startswith("250 ")
        assert b"for <" not in edge.spool.messages[0].body


@pytest.mark.spec("F5")
def test_folded_header_of_the_largest_size_is_scanned_quickly():
    section = b"Subject:" + b"\r\n x" * 60_000 + b"\r\nMessage-ID:" + b"\r\n <" * 5_000 + b"\r\n <1@far.test>\r\n"
    started = time.process_time()
    facts = scan_headers(section)
    assert time.process_time() - started < 0.2
    assert facts.subject.startswith("x x")


@pytest.mark.spec("F5")
@pytest.mark.parametrize(
    "subject",
    [
        b"=?a?q?" * 340,
        b"=?" * 1000,
        b"=?utf-8?q?" + b"=" * 2000,
        b"=?utf-8?b?" + b"A" * 2001 + b"?=",
        b"=?idna?q?" + b"xn--" * 400 + b"?=",
        b"=?punycode?q?" + b"a-" * 900 + b"?=",
        b"=?../../etc/passwd?q?x?=",
        b"=?a\0b?q?x?=",
        b"=?unicode_escape?q?\\ud800\\x0d\\x0aX?=",
        b"=?utf-16?b?AAAKAA==?=",
    ],
)
def test_encoded_subjects_of_any_kind_are_read_quickly_and_shown_on_one_line(subject):
    started = time.process_time()
    shown = scan_headers(b"Subject: " + subject + b"\r\n").subject
    assert time.process_time() - started < 0.2
    assert shown.isprintable()
    shown.encode()


def test_encrypted_key_is_refused_without_asking_for_its_password(tmp_path):
    pair, _ = certificate(tmp_path)
    key = serialization.load_pem_private_key(pair[1].read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"word")
    pair[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))
    with pytest.raises(CertificateError, match="do not serve"):
        CertificateWatch(*pair)


@pytest.mark.spec("F5")
async def test_quick_client_behind_a_handshake_is_answered(tmp_path):
    pair, context = certificate(tmp_path)
    limits = replace(Limits(), idle_commands=10**9, commands=10**9)
    async with edge_listener(limits, certificate=pair) as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        await client.say("STARTTLS")
        await client.writer.start_tls(context, server_hostname="mx.postern.test")
        count = 100_000
        sending = asyncio.create_task(client.send(b"NOOP\r\n" * count + b"QUIT\r\n"))
        said = await asyncio.wait_for(client.reader.read(), 30)
        with contextlib.suppress(OSError):
            await sending
        assert said.count(b"250 2.0.0 OK\r\n") == count
