"""Next hops that answer anything: replies from a grammar and a seed, damaged, doubled, early, endless, cut anywhere.

The same number makes the same next hop everywhere.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

_USUAL: Final = {
    "greeting": [b"220 hop.test ESMTP\r\n", b"220-hop.test\r\n220 ready\r\n", b"220\r\n"],
    "hello": [
        b"250-hop.test\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n",
        b"250 hop.test\r\n",
        b"250-hop.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    ],
    "mail": [b"250 2.1.0 ok\r\n", b"250\r\n", b"250-2.1.0 first\r\n250 2.1.0 last\r\n"],
    "rcpt": [b"250 2.1.5 ok\r\n", b"251 will forward\r\n", b"250 \xff\xfe\r\n"],
    "rcpt2": [b"250 2.1.5 ok\r\n", b"550 5.1.1 no bob\r\n"],  # to the second recipient
    "data": [b"354 go on\r\n", b"354\r\n"],
    "end": [b"250 2.0.0 taken\r\n", b"250 ok\r\n"],
}
STAGES: Final = tuple(_USUAL)
_REFUSALS: Final = [
    b"421 4.3.2 going down\r\n", b"450 4.2.1 later\r\n", b"550 5.1.1 no\r\n", b"552 full\r\n",
    b"503 5.5.1 sequence\r\n", b"554-5.7.1 no\r\n554 5.7.1 never\r\n", b"500 \r\n", b"334 what\r\n", b"199 odd\r\n",
    b"600 odd\r\n", b"000 odd\r\n",
]  # fmt: skip
_ODD: Final = [
    b"", b"\r\n", b"\n", b"250", b"25", b"250 ok\n", b"250 ok\r", b"2500 ok\r\n", b"abc\r\n",
    b"HTTP/1.1 400 Bad\r\n\r\n", b"-250 ok\r\n", b"250-never ending\r\n", b"250-a\r\n550 b\r\n", b"250_ok\r\n",
    b"\0\r\n", b"250 \0\x1b[2J\r\n", b"250 " + b"x" * 600 + b"\r\n", b"250 " + b"x" * 70_000 + b"\r\n",
    b"x" * 200_000, b"250-x\r\n" * 3000 + b"250 x\r\n", "２５０ ok\r\n".encode(), b"\x16\x03\x01\x02\x00",
    b"550 5.1.1 " + b"\xe2\x80\xa8" * 300 + b"\r\n", b"+250 ok\r\n", b"250-SIZE -1\r\n250 SIZE x\r\n",
    b"250-SIZE 99999999999999999999999999\r\n250 STARTTLS\r\n", b" 250 ok\r\n",
]  # fmt: skip


@dataclass
class HopScript:
    """What is said at each stage, in pieces; `whole` tells that the message's end was there before `end` was said."""

    pieces: dict[str, list[bytes]]
    port: int = 0
    whole: bool = False
    said: list[str] = field(default_factory=list)

    def reply(self, stage: str) -> bytes:
        """All that is said at a stage."""
        return b"".join(self.pieces[stage])


def hop_script(seed: int) -> HopScript:
    """The next hop of this number: some stages as usual, few of them not."""
    random = Random(seed)
    replies = {stage: random.choice(usual) for stage, usual in _USUAL.items()}
    for stage in random.sample(STAGES, random.choice([0, 1, 1, 1, 2])):
        replies[stage] = _odd(random, replies[stage])
    script = HopScript({stage: _cut(random, reply) for stage, reply in replies.items()})
    if random.random() < 0.1:  # the reply to the message before it came, and another one after it
        script.pieces["data"] = [b"354 go on\r\n250 2.0.0 taken\r\n"]
        script.pieces["end"] = [random.choice(_REFUSALS)]
    return script


def _odd(random: Random, usual: bytes) -> bytes:
    kind = random.random()
    if kind < 0.3:
        return random.choice(_REFUSALS)
    if kind < 0.5:
        return usual + random.choice([usual, *_REFUSALS, b"250 ok\r\n"])  # one reply too many
    if kind < 0.75:
        return random.choice(_ODD)
    at = random.randrange(len(usual) + 1)
    return (
        usual[:at] + random.choice([b"", b"\n", b"\r\n", b"\0", b"-", bytes([random.randrange(256)])]) + usual[at + 1 :]
    )


def _cut(random: Random, reply: bytes) -> list[bytes]:
    places = sorted(random.randrange(len(reply) + 1) for _ in range(random.choice([0, 0, 0, 1, 3])))
    return [reply[start:end] for start, end in zip([0, *places], [*places, len(reply)], strict=True)]


@asynccontextmanager
async def listening(script: HopScript) -> AsyncIterator[HopScript]:
    """The next hop on a port of its own, for one connection; it closes where its part is over."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await _dialogue(script, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()


async def _dialogue(script: HopScript, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def say(stage: str) -> None:
        script.said.append(stage)
        for piece in script.pieces[stage]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    await say("greeting")
    while line := await reader.readline():
        verb = line[:4].upper()
        if verb in {b"EHLO", b"HELO"}:
            await say("hello")
        elif verb == b"MAIL":
            await say("mail")
        elif verb == b"RCPT":
            await say("rcpt2" if "rcpt" in script.said else "rcpt")
        elif verb == b"DATA":
            await say("data")
            if not script.reply("data").startswith(b"354"):
                continue
            await reader.readuntil(b"\r\n.\r\n")
            script.whole = True
            await say("end")
        else:
            writer.write(b"250 ok\r\n" if verb == b"RSET" else b"221 bye\r\n")
            if verb == b"QUIT":
                return
