"""DKIM signatures through a whole edge: in by SMTP, stored, out by SMTP to a server that keeps each octet."""

import asyncio

import pytest

from tests.servers.dkim_shapes import sign, signed, verifies
from tests.servers.edge_fakes import Client
from tests.servers.edge_passage import stuffed
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.waiting import eventually_async

pytestmark = [pytest.mark.spec("F1"), pytest.mark.spec("R4")]


LARGE = b"From: a@far.test\r\nSubject: large\r\n\r\n" + (b".caf\xc3\xa9 \xff" + b"y" * 980 + b" \r\n" + b".\r\n") * 3000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.soak)])
async def test_signed_messages_of_many_shapes_verify_at_the_next_hop(stack, hop: FakeHop, count):
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer, hop.port)
    messages = [message for seed in range(count) if (message := signed(seed)) is not None]
    messages.append(sign(LARGE, (b"simple", b"simple"), [b"from", b"subject"]))  # kept apart from small ones
    client = Client(*await asyncio.open_connection(*stack.smtp()))
    assert (await client.reply()).startswith("220 ")
    for message in messages:
        await client.ready_for_data(f"ann@{domain}")
        await client.send(stuffed(message))
        assert (await client.reply()).startswith("250 ")
    await client.close()
    await eventually_async(lambda: len(hop.messages) >= len(messages), timeout=60 + count / 10)
    assert len(hop.messages) == len(messages)
    came = {taken.data.partition(b"DKIM-Signature:")[2]: taken.data for taken in hop.messages}
    for message in messages:
        whole = came[message.partition(b"DKIM-Signature:")[2]]
        assert whole.endswith(message)
        assert verifies(whole)
