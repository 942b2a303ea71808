"""Thousands of next hops that answer anything: an attempt always ends, with an answer that may be shown and stored, and
a message counts as delivered only if the server took it (SPEC R3, R4).
"""

import asyncio
import re
import time
import unicodedata

import pytest

from postern_edge.adapters.smtp import Connection, Timeouts, Unusable
from postern_edge.outbound.transaction import Addressee, Parcel, exchange
from postern_edge.rules.classify import LONGEST_REPLY, Answer, Outcome, Stage, outcome
from tests.servers.hop_scripts import HopScript, hop_script, listening

pytestmark = [pytest.mark.spec("R3"), pytest.mark.spec("R4")]

REFUSAL = re.compile(rb"(?m)^5\d\d")
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
    for given, stage in zip(answers, ("rcpt", "rcpt2"), strict=True):
        if given.stage is Stage.RCPT and outcome(given) is Outcome.BOUNCED:
            assert REFUSAL.search(script.reply(stage)), "bounced for a refusal of another recipient"
    bounced = [given for given in answers if outcome(given) is Outcome.BOUNCED]
    assert not bounced or any(REFUSAL.search(script.reply(stage)) for stage in script.said), "bounced on no refusal"
    return delivered


GREETING = {"greeting": b"220 x\r\n", "hello": b"250-x\r\n250 PIPELINING\r\n", "end": b"250 ok\r\n"}
NO, OK, GO = b"550 5.1.1 no\r\n", b"250 ok\r\n", b"354 go on\r\n"


@pytest.mark.parametrize(
    ("mail", "rcpt", "rcpt2", "data"),
    [
        (OK + OK, NO, OK, GO),
        (OK + NO, OK, OK, GO),
        (OK, OK + NO, OK, GO),
        (OK, OK, OK + NO, GO),
        (b"250-ok\r\n", OK, NO, GO),
        (OK + NO, OK, NO, b"35\r\n"),
    ],
)
@pytest.mark.parametrize("hello", [GREETING["hello"], b"250 x\r\n"])
async def test_a_refusal_never_hits_another_recipient_where_the_server_loses_its_place(mail, rcpt, rcpt2, data, hello):
    replies = {**GREETING, "mail": mail, "rcpt": rcpt, "rcpt2": rcpt2, "data": data, "hello": hello}
    script = HopScript({stage: [reply] for stage, reply in replies.items()})
    assert [outcome(given) for given in await attempt(script)] == [Outcome.DEFERRED] * 2


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
    assert delivered > PART / 5
    print(f"{PART} next hops, {delivered} took the message; {PART / (time.monotonic() - started):.0f} next hops/s")
