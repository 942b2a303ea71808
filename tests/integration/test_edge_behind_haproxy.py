"""The edge behind a real HAProxy that hands connections on with the PROXY protocol."""

import asyncio
import shutil

import aiosmtplib
import pytest

from postern_edge.inbound.connect import ConnectionLimits
from postern_local.ports import free_ports
from tests.servers.edge_fakes import edge_listener
from tests.servers.waiting import eventually_async

CONFIG = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen mail
    bind 127.0.0.1:{port}
    server edge 127.0.0.1:{edge} {option} check inter 200
"""
MESSAGE = b"Subject: through\r\n\r\nbody\r\n"


async def balancer(tmp_path, edge, option):
    [port] = free_ports(1)
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.format(port=port, edge=edge.listener.number, option=option))
    process = await asyncio.create_subprocess_exec("haproxy", "-f", str(config), "-db", "-q")

    async def open_port():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually_async(open_port)
    return process, port


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 check-send-proxy"])
async def test_mail_through_haproxy_is_taken_from_the_client_that_it_names(tmp_path, option):
    async with edge_listener(balancers="127.0.0.1/32", connections=ConnectionLimits(100, 100)) as edge:
        process, port = await balancer(tmp_path, edge, option)
        try:
            for source in ("127.0.0.2", "127.0.0.3"):
                await aiosmtplib.send(
                    MESSAGE, sender="a@far.test", recipients=["ann@example.test"], hostname="127.0.0.1", port=port,
                    start_tls=False, source_address=(source, 0),
                )  # fmt: skip
        finally:
            process.terminate()
            await process.wait()
        assert [message.peer_ip for message in edge.spool.messages] == ["127.0.0.2", "127.0.0.3"]
        await edge.wait_for_sessions()
        assert edge.port.taken == 0
