"""STARTTLS with live certificates, and the end of a listener's life."""

import asyncio
import contextlib
import ssl

import pytest
import trustme

from postern_edge.tls import CertificateError, CertificateWatch
from tests.servers.edge_fakes import edge_listener

MESSAGE = b"Subject: hello\r\n\r\nbody\r\n.\r\n"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def write_pair(folder, authority, name):
    issued = authority.issue_cert(name)
    for file, blob in (("tls.crt", issued.cert_chain_pems[0]), ("tls.key", issued.private_key_pem)):
        fresh = folder / (file + ".new")
        blob.write_to_path(fresh)
        fresh.replace(folder / file)
    return folder / "tls.crt", folder / "tls.key"


def client_context(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def start_tls(client, context, name):
    assert (await client.say("STARTTLS")).startswith("220 2.0.0")
    await asyncio.wait_for(client.writer.start_tls(context, server_hostname=name), 10)
    return client.writer.get_extra_info("ssl_object")


@pytest.fixture
async def secure(tmp_path, authority):
    async with edge_listener(certificate=write_pair(tmp_path, authority, "mx.postern.test")) as edge:
        yield edge


async def test_message_over_tls(secure, authority):
    client = await secure.connect()
    assert "STARTTLS" in await client.say("EHLO client.test")
    await start_tls(client, client_context(authority), "mx.postern.test")
    assert "STARTTLS" not in await client.say("EHLO client.test")
    assert (await client.say("STARTTLS")).startswith("503 5.5.1")
    await client.ready_for_data()
    await client.send(MESSAGE)
    assert (await client.reply()).startswith("250 2.0.0 OK")
    (message,) = secure.spool.messages
    assert message.tls.version == "TLSv1.3"
    assert b" with ESMTPS id " in message.body
    assert b"(using TLSv1.3 with cipher TLS_" in message.body
    assert (await client.say("QUIT")).startswith("221 ")


async def test_session_forgets_all_that_was_said_in_clear(secure, authority):
    client = await secure.connect()
    await client.say("EHLO client.test")
    await client.say("MAIL FROM:<a@far.test>")
    await start_tls(client, client_context(authority), "mx.postern.test")
    assert (await client.say("RCPT TO:<ann@example.test>")).startswith("503 ")
    assert (await client.say("MAIL FROM:<a@far.test>")).startswith("503 5.5.1 Send EHLO")


@pytest.mark.spec("F5")
async def test_case_48_commands_in_the_packet_of_starttls_are_discarded(secure, authority):
    client = await secure.connect()
    await client.say("EHLO client.test")
    await client.send(b"STARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<inj@x.test>\r\n")
    assert (await client.reply()).startswith("220 ")
    await client.writer.start_tls(client_context(authority), server_hostname="mx.postern.test")
    assert (await client.say("RCPT TO:<ann@example.test>")).startswith("503 ")
    assert (await client.say("EHLO client.test")).startswith("250-")
    assert (await client.say("MAIL FROM:<a@far.test>")).startswith("250 2.1.0")


@pytest.mark.spec("F5")
async def test_failed_handshake_ends_the_connection(secure):
    client = await secure.connect()
    await client.say("EHLO client.test")
    assert (await client.say("STARTTLS")).startswith("220 ")
    with contextlib.suppress(OSError):
        await client.send(b"MAIL FROM:<a@far.test>\r\nQUIT\r\n")
    await secure.wait_for_sessions()
    other = await secure.connect()
    assert (await other.say("NOOP")).startswith("250 ")


@pytest.mark.spec("F5")
async def test_bare_line_end_over_tls_is_refused_with_a_reply(secure, authority):
    client = await secure.connect()
    await client.say("EHLO client.test")
    await start_tls(client, client_context(authority), "mx.postern.test")
    await client.ready_for_data()
    await client.send(b"a\nb\r\n.\r\n")
    assert (await client.reply()).startswith("521 5.5.2")
    assert await client.is_closed()


def certificate(edge):
    assert edge.port.tls is not None
    return edge.port.tls


async def served_name(edge, authority, name):
    client = await edge.connect()
    await client.say("EHLO client.test")
    try:
        found = await start_tls(client, client_context(authority), name)
    finally:
        await client.close()
    return found.getpeercert()["subjectAltName"][0][1]


async def test_replaced_certificate_is_served_without_a_restart(tmp_path, authority):
    pair = write_pair(tmp_path, authority, "a.postern.test")
    async with edge_listener(certificate=pair) as edge:
        before = await edge.connect()
        await before.say("EHLO client.test")
        await start_tls(before, client_context(authority), "a.postern.test")
        assert not certificate(edge).reload_if_changed()
        write_pair(tmp_path, authority, "b.postern.test")
        assert certificate(edge).reload_if_changed()
        assert await served_name(edge, authority, "b.postern.test") == "b.postern.test"
        assert (await before.say("NOOP")).startswith("250 ")


async def test_bad_pair_never_replaces_a_good_one(tmp_path, authority):
    pair = write_pair(tmp_path, authority, "a.postern.test")
    async with edge_listener(certificate=pair) as edge:
        stranger = authority.issue_cert("b.postern.test")
        nonsense = b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
        for spoilt, text in ((pair[1], stranger.private_key_pem.bytes()), (pair[0], nonsense), (pair[0], None)):
            if text is None:
                spoilt.unlink()
            else:
                spoilt.write_bytes(text)
            assert not certificate(edge).reload_if_changed()
            assert await served_name(edge, authority, "a.postern.test") == "a.postern.test"


def test_start_with_a_bad_pair_is_refused(tmp_path, authority):
    certificate, key = write_pair(tmp_path, authority, "a.postern.test")
    with pytest.raises(CertificateError, match="cannot read"):
        CertificateWatch(tmp_path / "missing.crt", key)
    authority.issue_cert("b.postern.test").private_key_pem.write_to_path(key)
    with pytest.raises(CertificateError, match="do not serve"):
        CertificateWatch(certificate, key)


def test_certificate_that_has_ended_is_refused(tmp_path, authority):
    from datetime import UTC, datetime, timedelta

    past = datetime.now(UTC) - timedelta(days=1)
    issued = authority.issue_cert("a.postern.test", not_before=past - timedelta(days=9), not_after=past)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    issued.private_key_pem.write_to_path(tmp_path / "tls.key")
    with pytest.raises(CertificateError, match="ended on"):
        CertificateWatch(tmp_path / "tls.crt", tmp_path / "tls.key")


@pytest.mark.spec("R4")
async def test_drain_lets_the_message_under_way_end_and_sends_the_idle_away():
    async with edge_listener() as edge:
        idle, sending, spooling = await edge.connect(), await edge.connect(), await edge.connect()
        await sending.ready_for_data()
        await sending.send(MESSAGE[:10])
        await spooling.ready_for_data()
        edge.spool.gate = asyncio.Event()
        await spooling.send(MESSAGE)
        await asyncio.sleep(0.05)
        number = edge.listener.number
        draining = asyncio.create_task(edge.listener.drain(5))
        assert (await idle.reply()).startswith("421 4.3.2")
        assert await idle.is_closed()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", number)
        await sending.send(MESSAGE[10:])
        await asyncio.sleep(0.05)
        edge.spool.gate.set()
        for client in (sending, spooling):
            assert (await client.reply()).startswith("250 2.0.0 OK")
            assert (await client.reply()).startswith("421 4.3.2")
            await client.close()
        await idle.close()
        await asyncio.wait_for(draining, 5)
        assert len(edge.spool.messages) == 2
        assert not edge.listener.is_open


async def test_drain_cuts_off_who_does_not_end_in_time():
    async with edge_listener() as edge:
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(MESSAGE[:10])
        await asyncio.wait_for(edge.listener.drain(0.2), 2)
        assert await client.is_closed()
        assert edge.spool.messages == []


async def test_two_listeners_share_a_port():
    async with edge_listener() as first, edge_listener() as second:
        with pytest.raises(OSError):
            await second.listener.start("127.0.0.1", first.listener.number)
