"""A connection judges the server right after the handshake, on the loop that the service runs on (SPEC R11)."""

import asyncio
import ssl
from hashlib import sha256

import pytest
import trustme

from postern_edge.adapters.smtp import Connection, Timeouts, Unusable
from postern_edge.rules.dane import Tlsa
from postern_edge.rules.tls_policy import Level, Requirement, TlsFault
from tests.servers.authority import authority, serving  # noqa: F401
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.waiting import eventually_async


async def connected(hop):
    return await Connection.open(hop.host, hop.port, "client.test", Timeouts(3.0, 0.5, 3.0, 3.0))


def dane(data, usage=3, selector=1):
    return Requirement(Level.DANE, (Tlsa(usage, selector, 1, data),), ("mx.a.test",))


async def refused(hop, wanted):
    """Why a server is not gone on with; nothing is said to it after the handshake."""
    connection = await connected(hop)
    with pytest.raises(Unusable) as caught:
        await connection.start_tls("mx.a.test", wanted)
    assert [command.partition(" ")[0] for command in hop.commands] == ["EHLO", "STARTTLS"]
    assert not connection.secure
    assert not connection.is_open
    return caught.value


@pytest.mark.spec("R11")
async def test_the_servers_own_certificate_is_judged_by_tlsa_records(hop):
    hop.tls = serving(trustme.CA(), "any-name.test")
    connection = await connected(hop)
    await connection.start_tls("mx.a.test", dane(bytes.fromhex(hop.tls.digest)))
    assert connection.tls.version == "TLSv1.3"
    assert connection.tls.cipher
    assert connection.ends == ("127.0.0.1", "127.0.0.1")
    assert hop.count("EHLO") == 2
    connection.close()


@pytest.mark.spec("R11")
async def test_the_authoritys_certificate_that_the_server_sent_is_judged_by_tlsa_records(hop):
    ca = trustme.CA()
    hop.tls = serving(ca, "mx.a.test")
    record = Requirement(Level.DANE, (Tlsa(2, 0, 1, _digest(ca)),), ("mx.a.test",))
    connection = await connected(hop)
    await connection.start_tls("mx.a.test", record)
    assert connection.met == record
    connection.close()


@pytest.mark.spec("R11")
async def test_nothing_is_said_to_a_server_that_no_record_vouches_for(hop):
    hop.tls = serving(trustme.CA(), "mx.a.test")
    error = await refused(hop, dane(bytes(32)))
    assert str(error) == "the mail server's certificate matches no TLSA record"
    assert error.fault == TlsFault("certificate-not-trusted", "dane-no-match")
    assert error.shows_life


@pytest.mark.spec("R11")
async def test_nothing_is_said_to_a_server_that_no_authority_vouches_for(hop, authority):
    hop.tls = serving(authority, "mx.b.test")
    error = await refused(hop, Requirement(Level.WEBPKI))
    assert error.fault == TlsFault("certificate-host-mismatch", "")


@pytest.mark.spec("R11")
@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.WEBPKI, Level.DANE])
async def test_a_server_that_stalls_after_its_220_is_given_up_in_time(hop, level):
    hop.stall_after_starttls = True
    error = await refused(hop, Requirement(level))
    assert error.fault == TlsFault("validation-failure", "tls-timed-out")
    assert not error.shows_life


@pytest.mark.spec("R11")
async def test_a_server_that_refuses_starttls_is_not_gone_on_with(hop):
    hop.tls = serving(trustme.CA(), "mx.a.test")
    hop.replies["STARTTLS"] = "454 4.7.0 TLS not available"
    connection = await connected(hop)
    with pytest.raises(Unusable) as caught:
        await connection.start_tls("mx.a.test", Requirement(Level.ENCRYPT))
    assert caught.value.fault == TlsFault("validation-failure", "starttls-refused-454")


@pytest.mark.spec("R11")
async def test_an_attempt_that_is_broken_off_at_the_goodbye_leaves_no_connection_behind(hop):
    hop.delays["QUIT"] = 30.0
    connection = await connected(hop)
    goodbye = asyncio.create_task(connection.quit())
    await eventually_async(lambda: hop.count("QUIT"))
    goodbye.cancel()
    await asyncio.wait({goodbye})
    assert not connection.is_open


def _digest(ca):
    return sha256(ssl.PEM_cert_to_DER_cert(ca.cert_pem.bytes().decode())).digest()
