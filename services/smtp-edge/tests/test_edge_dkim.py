"""A DKIM-signed message of any legal shape verifies after our hop: bytes in are bytes out (SPEC F1, F5)."""

import logging
import time

import pytest
import structlog

from tests.servers.dkim_shapes import sign, signed, verifies
from tests.servers.edge_passage import passage, stuffed, unstuffed

pytestmark = [pytest.mark.spec("F1"), pytest.mark.spec("F5")]

PART = 2000
PARTS = 3


@pytest.fixture(autouse=True)
def quiet():
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


async def verified_after_the_hop(first, count):
    """How many of these messages were signed, and good after our hop, as all must be."""
    good = 0
    for seed in range(first, first + count):
        message = signed(seed)
        if message is None:
            continue
        came = await passage([stuffed(message)])
        sent = unstuffed(came.sent)
        assert sent.endswith(message), f"message {seed}: other octets"
        assert verifies(sent), f"message {seed}: the signature broke"
        good += 1
    return good


async def test_signatures_of_many_shapes_verify_after_the_hop():
    assert await verified_after_the_hop(0, 60) > 40


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
async def test_signatures_of_thousands_of_shapes_verify_after_the_hop(part):
    started = time.monotonic()
    good = await verified_after_the_hop(100_000 + part * PART, PART)
    assert good > PART * 0.6
    print(f"{good} signed messages verified; {good / (time.monotonic() - started):.0f} messages/s")


@pytest.mark.parametrize("how", [b"simple", b"relaxed"])
async def test_case_64_signed_line_of_1200_octets_is_never_wrapped(how):
    message = b"From: a@far.test\r\nSubject: x\r\n\r\n" + b"y" * 1200 + b"\r\nend\r\n"
    came = await passage([stuffed(sign(message, (how, how), [b"from", b"subject"]))])
    sent = unstuffed(came.sent)
    assert sent.endswith(message)
    assert verifies(sent)


def test_a_single_other_octet_breaks_a_signature():
    message = next(filter(None, (signed(seed) for seed in range(20))))
    assert verifies(message)
    assert not verifies(message.replace(b"far.test\r\n", b"far.tesT\r\n", 1))
