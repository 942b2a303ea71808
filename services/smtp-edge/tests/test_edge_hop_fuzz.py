"""Thousands of next hops that answer anything: an attempt always ends, with an answer that may be shown and stored, and
a message counts as delivered only if the server took it (SPEC R3, R4).
"""

import asyncio
import time
import unicodedata

import pytest

from postern_edge.adapters.smtp import Connection, Timeouts, Unusable
from postern_edge.outbound.transaction import Addressee, Parcel, exchange
from postern_edge.rules.classify import LONGEST_REPLY, Answer, Outcome, outcome
from tests.servers.hop_scripts import HopScript, hop_script, listening

pytestmark = [pytest.mark.spec("R3"), pytest.mark.spec("R4")]

PART = 10_000
PARTS = 3
AT_A_TIME = 40
TIMEOUTS = Timeouts(0.3, 0.3, 0.3, 0.3)
BODY = b"Subject: x\r\n\r\nbody\r\n"
ANN, BOB = Addressee("ann@hop.test"), Addressee("bob@hop.test")


async def attempt(script: HopScript) -> list[Answer]:
    """Deliver once; what each of the two recipients got."""
    async with asyncio.timeout(10), listening(script):
        connection = None
        try:
            connection = await Connection.open("127.0.0.1", script.port, "mx.postern.test", TIMEOUTS)
            came = await exchange(connection, Parcel("a@far.test", len(BODY), False, False, BODY, None), [ANN, BOB])
            answers = came.answers
        except Unusable as error:
            answers = [error.answer] * 2
        finally:
            if connection is not None:
                connection.close()
    return answers


def check(script: HopScript, answers: list[Answer]) -> bool:
    """Whether the message was delivered to anybody, as the server knows too."""
    for given in answers:
        assert len(given.text) <= LONGEST_REPLY
        assert not {unicodedata.category(char) for char in given.text} & {"Cc", "Cs", "Zl", "Zp"}
    delivered = any(outcome(given) is Outcome.DELIVERED for given in answers)
    # A second reply to DATA that comes while the message is on its way cannot be told from the one to its end.
    late = len(script.pieces["data"]) > 1 and script.reply("data").count(b"\n") > 1
    if delivered and not late:
        assert script.whole, "delivered, and the server never had it whole"
        assert script.reply("end").startswith(b"2"), f"delivered on {script.reply('end')!r}"
    bounced = [given for given in answers if outcome(given) is Outcome.BOUNCED]
    assert all(any(b"5" in script.reply(stage) for stage in script.said) for _ in bounced), "bounced on no refusal"
    return delivered


async def attempt_all(first: int, count: int) -> int:
    """How many of these attempts delivered; many at a time, since most of them wait for a timeout."""
    room = asyncio.Semaphore(AT_A_TIME)

    async def one(seed: int) -> bool:
        async with room:
            script = hop_script(seed)
            try:
                return check(script, await attempt(script))
            except Exception as error:
                shown = {stage: script.reply(stage)[:200] for stage in script.pieces}
                raise AssertionError(f"next hop {seed}: {error!r}\n{shown}") from error

    return sum(await asyncio.gather(*(one(seed) for seed in range(first, first + count))))


async def test_hundreds_of_odd_next_hops_are_borne():
    assert await attempt_all(0, 400) > 100


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
async def test_thousands_of_odd_next_hops_are_borne(part):
    started = time.monotonic()
    delivered = await attempt_all(1_000_000 + part * PART, PART)
    print(f"{PART} next hops, {delivered} took the message; {PART / (time.monotonic() - started):.0f} next hops/s")
