"""Clients that go, in every state and in every way: nothing stays counted, nothing is logged that is no trouble."""

import asyncio
import socket
import struct

import pytest
import structlog.testing
import trustme

from tests.servers.edge_fakes import edge_listener

MESSAGE = b"Subject: hello\r\n\r\nbody\r\n.\r\n"


def reset(client):
    """End the connection with a RST."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


def certificate(folder):
    """The files of a certificate and its key."""
    issued = trustme.CA().issue_cert("mx.postern.test")
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    return folder / "tls.crt", folder / "tls.key"


@pytest.mark.spec("F5")
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"EH",
        b"EHLO x\r\n",
        b"EHLO x\r\nMAIL FROM:<a@far.test>\r\n",
        b"EHLO x\r\nMAIL FROM:<a@far.test>\r\nRCPT TO:<ann@example.test>\r\nDATA\r\n",
        b"EHLO x\r\nSTARTTLS\r\n",
        b"QUIT\r\n",
    ],
)
@pytest.mark.parametrize("how", ["eof", "close", "reset"])
async def test_client_may_go_at_any_moment(said, how, tmp_path):
    pair = certificate(tmp_path)
    troubles = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    async with edge_listener(certificate=pair) as edge:
        for pause in (0, 0.05):
            client = await edge.connect()
            await client.send(said)
            await asyncio.sleep(pause)
            if how == "eof":
                client.writer.write_eof()
            elif how == "close":
                await client.close()
            else:
                reset(client)
            await edge.wait_for_sessions()
        assert edge.port.taken == 0
        assert not edge.port._by_address
        assert edge.port.budget.used == 0
        assert edge.spool.messages == []
    loop.set_exception_handler(None)
    assert troubles == []


@pytest.mark.spec("R4")
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_client_that_goes_while_its_message_is_spooled_disturbs_nothing(how):
    async with edge_listener() as edge:
        edge.spool.gate = asyncio.Event()
        client = await edge.connect()
        await client.ready_for_data()
        await client.send(MESSAGE + b"NOOP\r\n")
        await asyncio.sleep(0.05)
        if how == "close":
            await client.close()
        else:
            reset(client)
        with structlog.testing.capture_logs() as logs:
            edge.spool.gate.set()
            await edge.wait_for_sessions()
            await asyncio.sleep(0.05)
        assert [entry["event"] for entry in logs] == ["message_accepted"]
        assert edge.port.taken == 0
        assert edge.port.budget.used == 0
