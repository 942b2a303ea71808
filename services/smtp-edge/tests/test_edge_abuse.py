"""What the inbound port does with smugglers, floods, slow clients and clients of other protocols (SPEC F5)."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from postern_edge.limits import COMMAND_FLOOD, HEADER, SPILL, Limits
from tests.servers.edge_fakes import edge_listener

pytestmark = pytest.mark.spec("F5")

QUICK = replace(
    Limits(), command_seconds=0.3, data_idle_seconds=0.3, data_seconds=0.8, linger_seconds=0.3, budget_wait_seconds=0.2
)
# End markers that some server takes for the end of a message (PEERS part 2, smuggling vectors).
MARKERS = {
    "lf_dot_lf": b"\n.\n",
    "lf_dot_crlf": b"\n.\r\n",
    "crlf_dot_lf": b"\r\n.\n",
    "cr_dot_cr": b"\r.\r",
    "crlf_dot_cr": b"\r\n.\r",
    "cr_dot_crlf": b"\r.\r\n",
    "lf_dot_cr": b"\n.\r",
    "cr_dot_lf": b"\r.\n",
    "crcrlf_dot_crcrlf": b"\r\r\n.\r\r\n",
    "crlf_dot_crcrlf": b"\r\n.\r\r\n",
    "crcrlf_dot_crlf": b"\r\r\n.\r\n",
    "lf_lf_dot": b"\n\n.\r\n",
    "crlf_nul_dot_crlf": b"\r\n\0.\r\n",
    "crlf_dot_nul_crlf": b"\r\n.\0\r\n",
    "crlf_blank_dot": b"\r\n .\r\n",
    "crlf_dot_blank": b"\r\n. \r\n",
}
SMUGGLED = b"MAIL FROM:<evil@far.test>\r\nRCPT TO:<ann@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("marker", list(MARKERS))
async def test_smuggled_message_is_never_one_of_its_own(marker, step):
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        with contextlib.suppress(OSError):
            await client.send(b"Subject: outer\r\n\r\nbody" + MARKERS[marker] + SMUGGLED, step=step)
        reply = await client.reply()
        if b"\n" in MARKERS[marker].replace(b"\r\n", b"") or b"\r" in MARKERS[marker].replace(b"\r\n", b""):
            assert reply.startswith("521 5.5.2")
            assert await client.is_closed()
            assert edge.spool.messages == []
        elif b"\0" in MARKERS[marker]:
            assert reply.startswith("554 5.6.0")
            assert edge.spool.messages == []
        else:
            assert reply.startswith("250 ")
            assert len(edge.spool.messages) == 1
            assert b"smuggled" in edge.spool.messages[0].body


async def test_case_46_bare_lf_with_dots():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(b"this is a test of dot\n...\n\r\n.\r\n")
        assert (await client.reply()).startswith("521 5.5.2")
        assert await client.is_closed()
        assert edge.spool.messages == []


async def test_case_47_dots_keep_their_octets():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(b"..test\r\n..\r\nend\r\n.\r\n")
        assert (await client.reply()).startswith("250 ")
        assert edge.spool.messages[0].body.endswith(b"\r\n.test\r\n.\r\nend\r\n")


@pytest.mark.parametrize("line", [b"NOOP\nNOOP\r\n", b"NOOP\n", b"NOOP\rRSET\r\n", b"NOOP\r\r\n"])
async def test_bare_line_end_in_a_command_ends_the_session(line):
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.send(line)
        assert (await client.reply()).startswith("521 5.5.2")
        assert await client.is_closed()


async def test_case_52_endless_command_line_is_bounded():
    async with edge_listener() as edge:
        client = await edge.connect()
        with contextlib.suppress(OSError):
            await client.send(b"x" * (COMMAND_FLOOD + 1))
        assert (await client.reply()).startswith("421 4.5.2")
        assert await client.is_closed()


async def test_case_52_endless_line_in_a_message_is_waited_out_without_memory():
    async with edge_listener(replace(Limits(), max_message_bytes=4_000_000)) as edge:
        client = await edge.connect()
        await client.ready_for_data()
        for _ in range(40):
            await client.send(b"x" * 125_000)
        assert edge.port.budget.used < 4_000_000
        await client.send(b"\r\n.\r\n")
        assert (await client.reply()).startswith("552 5.3.4")
        assert (await client.say("NOOP")).startswith("250 ")
        assert edge.spool.messages == []


async def test_case_52_message_without_an_end_is_cut_off():
    async with edge_listener(replace(Limits(), max_message_bytes=100_000)) as edge:
        client = await edge.connect()
        await client.ready_for_data()
        with contextlib.suppress(OSError):
            for _ in range(100):
                await client.send(b"x" * 10_000)
        assert (await client.reply()).startswith("552 5.3.4")
        assert await client.is_closed()


@pytest.mark.spec("R13")
async def test_case_53_message_too_large_is_refused_after_its_end_and_the_connection_lives():
    async with edge_listener(replace(Limits(), max_message_bytes=1_000_000)) as edge:
        client = await edge.connect()
        await client.ready_for_data()
        await client.send((b"x" * 998 + b"\r\n") * 3_000 + b".\r\n")
        assert (await client.reply()).startswith("552 5.3.4")
        assert edge.spool.messages == []
        await client.ready_for_data()
        await client.send(b"Subject: x\r\n\r\nsmall\r\n.\r\n")
        assert (await client.reply()).startswith("250 ")


async def test_case_54_dripping_and_silent_clients_are_dropped_and_others_served():
    async with edge_listener(QUICK) as edge:
        silent = await edge.connect()
        in_command = await edge.connect()
        in_data = await edge.connect()
        await in_data.ready_for_data()

        async def drip(client, octet):
            with contextlib.suppress(OSError):
                for _ in range(40):
                    await client.send(octet)
                    await asyncio.sleep(0.05)

        drips = [asyncio.create_task(drip(in_command, b"N")), asyncio.create_task(drip(in_data, b"x"))]
        good = await edge.connect()
        await good.ready_for_data()
        await good.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert (await good.reply()).startswith("250 ")
        assert (await silent.reply()).startswith("421 4.4.2")
        assert (await in_command.reply()).startswith("421 4.4.2")
        assert (await in_data.reply()).startswith("421 4.4.2")
        for task in drips:
            task.cancel()
        await edge.wait_for_sessions()
        assert edge.port.budget.used == 0


async def test_case_54_silence_within_a_message_ends_it():
    async with edge_listener(replace(QUICK, data_seconds=60)) as edge:
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(b"Subject: x\r\n")
        assert (await client.reply()).startswith("421 4.4.2")


async def test_client_that_never_reads_is_cut_off():
    async with edge_listener(replace(QUICK, idle_commands=10**9, commands=10**9)) as edge:
        client = await edge.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                while edge.port.sessions:
                    await client.send(b"HELP\r\n" * 10_000)
        await edge.wait_for_sessions()
        assert not edge.port.sessions


async def test_case_55_line_end_in_an_address_makes_no_command():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.say("EHLO x")
        await client.send(b"MAIL FROM:<a@far.test\r\nRCPT TO:<x@y>\r\n")
        assert (await client.reply()).startswith("501 ")
        assert (await client.reply()).startswith("503 ")


async def test_case_64_long_lines_pass_unchanged_up_to_the_limit():
    async with edge_listener(replace(Limits(), line_bytes=2000)) as edge:
        client = await edge.connect()
        await client.ready_for_data()
        line = b"x" * 1200 + b"\r\n"
        await client.send(b"Subject: x\r\n\r\n" + line + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        assert edge.spool.messages[0].body.endswith(b"\r\n" + line)
        await client.ready_for_data()
        await client.send(b"Subject: x\r\n\r\n" + b"x" * 2000 + b"\r\n.\r\n")
        assert (await client.reply()).startswith("500 5.5.2")
        assert (await client.say("NOOP")).startswith("250 ")


async def test_nul_is_refused_after_the_end():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(b"Subject: x\r\n\r\na\0b\r\n.\r\n")
        assert (await client.reply()).startswith("554 5.6.0")
        assert (await client.say("NOOP")).startswith("250 ")


async def test_header_without_an_end_is_refused():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(b"X: y\r\n" * (HEADER // 5) + b".\r\n")
        assert (await client.reply()).startswith("554 5.6.0")


async def test_header_without_an_end_is_given_to_no_store_and_holds_no_memory():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        for _ in range(40):
            await client.send(b"X-Header: endless\r\n" * 5000)
        assert edge.port.budget.used < 2 * SPILL
        await client.send(b"\r\nbody\r\n.\r\n")
        assert (await client.reply()).startswith("554 5.6.0")
        assert edge.spool.uploads == []
        assert edge.port.budget.used == 0
        assert (await client.say("NOOP")).startswith("250 ")


@pytest.mark.parametrize(
    "hello",
    [
        b"GET / HTTP/1.1\r\nHost: mx.postern.test\r\n\r\n",
        b"POST /v1 HTTP/1.1\r\nContent-Length: 30\r\n\r\nMAIL FROM:<a@far.test>\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\x80\x2e\x01\x00\x02" + bytes(40),
        b"\x00\x0e8\xa5/\x89\r\n",
        "héllo\r\n".encode(),
    ],
)
async def test_client_of_another_protocol_is_sent_away_with_a_word(hello):
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.send(hello)
        assert (await client.reply()).startswith("521 5.5.1")
        assert await client.is_closed()


async def test_garbage_octets_never_end_the_listener():
    async with edge_listener() as edge:
        for seed in range(20):
            client = await edge.connect()
            with contextlib.suppress(OSError):
                await client.send(bytes((seed * 7 + i * i) % 256 for i in range(3000)) + b"\r\n")
                while await client.reply():
                    pass
            await client.close()
        client = await edge.connect()
        assert (await client.say("EHLO x")).startswith("250")


@pytest.mark.spec("R13")
async def test_large_body_is_streamed_to_the_store():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        body = b"Subject: large\r\n\r\n" + (b"y" * 98 + b"\r\n") * 40_000
        await client.send(body + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        (message,) = edge.spool.messages
        (upload,) = edge.spool.uploads
        stored = b"".join(upload.chunks)
        assert message.body == b""
        assert message.subject == "large"
        assert message.stored_body is not None
        assert message.stored_body.size == message.size == len(stored)
        assert stored.startswith(b"Received: from client.test")
        assert stored.endswith(body)
        assert edge.port.budget.used == 0


async def test_slow_store_pauses_the_client_instead_of_filling_memory():
    async with edge_listener() as edge:
        edge.spool.upload_delay = 0.05
        client = await edge.connect()
        await client.ready_for_data()
        most = 0
        for _ in range(80):
            await client.send((b"z" * 998 + b"\r\n") * 100)
            most = max(most, edge.port.budget.used)
        await client.send(b"\r\n.\r\n")
        assert (await client.reply()).startswith(("250 ", "554 "))
        assert most < 3 * SPILL


async def test_tight_memory_streams_bodies_early_and_full_memory_puts_off():
    async with edge_listener(QUICK, budget=600_000) as edge:
        edge.port.budget.charge(550_000)
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(b"Subject: x\r\n\r\n" + (b"z" * 998 + b"\r\n") * 600 + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        assert len(edge.spool.uploads) == 1
        edge.port.budget.charge(60_000)
        await client.say("MAIL FROM:<a@far.test>")
        await client.say("RCPT TO:<ann@example.test>")
        assert (await client.say("DATA")).startswith("452 4.3.1")
        await client.say("MAIL FROM:<a@far.test>")
        await client.say("RCPT TO:<ann@example.test>")
        asyncio.get_running_loop().call_later(0.05, edge.port.budget.charge, -100_000)
        assert (await client.say("DATA")).startswith("354")


async def test_upload_of_a_refused_or_cut_off_message_is_aborted():
    async with edge_listener(replace(Limits(), max_message_bytes=3_000_000)) as edge:
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(b"Subject: x\r\n\r\n")
        for _ in range(40):
            await client.send((b"z" * 998 + b"\r\n") * 100)
        await client.send(b".\r\n")
        assert (await client.reply()).startswith("552 ")
        assert edge.spool.uploads[0].aborted
        await client.ready_for_data()
        await client.send(b"Subject: x\r\n\r\n")
        for _ in range(20):
            await client.send((b"z" * 998 + b"\r\n") * 100)
        await client.close()
        await edge.wait_for_sessions()
        await asyncio.sleep(0.05)
        assert edge.spool.uploads[1].aborted
        assert edge.port.budget.used == 0
