"""Servers that offer PIPELINING and cannot do it: their mail comes late, and never for want of a simpler dialogue."""

import asyncio
from datetime import UTC, datetime
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest

from postern_common.netguard import NetGuard
from postern_edge.adapters.smtp import Timeouts
from postern_edge.outbound.attempt import attempt
from postern_edge.outbound.servers import ForCustomer, Policy, Servers
from postern_edge.outbound.transaction import Addressee, Parcel
from postern_edge.rules.classify import Outcome, outcome
from postern_edge.rules.route import Server

pytestmark = pytest.mark.spec("R3")

BODY = b"Subject: x\r\n\r\nx\r\n"
EHLO = b"250-hop.test\r\n250 PIPELINING\r\n"


class Simple:
    """Reads a piece of the stream, answers its first line, and forgets the others, or closes over them."""

    port = 0

    def __init__(self, closes: bool) -> None:
        self.closes = closes
        self.groups = 0

    async def serve(self, reader, writer):
        writer.write(b"220 hop.test\r\n")
        replies = {b"EHLO": EHLO, b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}
        while piece := await reader.read(1 << 16):
            if piece.count(b"\r\n") > 1 and not piece.endswith(b"\r\n.\r\n"):
                self.groups += 1
                if self.closes:
                    break
            writer.write(replies.get(piece[:4].upper(), b"250 ok\r\n"))
        writer.close()


@pytest.fixture(params=[False, True], ids=["forgets", "closes"])
async def simple(request):
    fake = Simple(request.param)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    yield fake
    server.close()


async def test_a_server_that_cannot_do_what_it_offers_gets_one_command_at_a_time(simple):
    async def addresses(_host):
        return ["127.0.0.1"]

    async def parcel():
        return Parcel("bob@x.test", len(BODY), False, False, BODY, None)

    servers = Servers(
        Policy("mx.test", Timeouts(5, 5, 0.3, 5)),
        cast(Any, SimpleNamespace(addresses=addresses)),
        NetGuard([ip_network("127.0.0.0/8")]),
        lambda: datetime.now(UTC),
        cast(Any, SimpleNamespace(add=lambda *_: None)),
    )
    server = Server("hop.test", simple.port)
    outcomes = []
    for _ in range(3):
        [tried] = await attempt(ForCustomer(servers, "cus_1"), [server], parcel, [(0, Addressee("ann@y.test"))])
        outcomes.append(outcome(tried.answer))
    await servers.close()
    assert outcomes == [Outcome.DEFERRED, Outcome.DELIVERED, Outcome.DELIVERED]
    assert simple.groups == 1
