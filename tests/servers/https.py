"""An application over HTTPS within the test's own loop, with certificates of an authority that the test trusts."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trustme

from postern_common.runtime import http_server
from tests.servers.waiting import eventually_async


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What a client trusts: this authority alone."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def serving(app: Any, leaf: trustme.LeafCert, folder: Path) -> AsyncIterator[int]:
    """The application with that certificate; yields its port on 127.0.0.1."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    server = http_server(app, "127.0.0.1", 0, drain_seconds=1)
    server.config.ssl_certfile, server.config.ssl_keyfile = chain, key
    task = asyncio.create_task(server.serve())
    await eventually_async(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
