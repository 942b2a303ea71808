"""The connection to a next hop, word by word: replies that come early, late or doubled are never taken for others."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from postern_edge.adapters.smtp import Connection, Timeouts, Unusable
from postern_edge.outbound.transaction import Addressee, Parcel, exchange
from postern_edge.rules.classify import Stage

GREETING = b"220 hop.test\r\n"
EHLO = b"250-hop.test\r\n250 8BITMIME\r\n"
LARGE = b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n"
LARGE = LARGE * 700


@asynccontextmanager
async def scripted(*replies, at_end=b"250 2.0.0 taken\r\n", after=None):
    """A connection to a server that says `replies` in turn, one for each line, and `at_end` at the message's end, or
    `after` so many octets of it."""
    taken = bytearray()

    async def serve(reader, writer):
        writer.write(GREETING)
        for reply in (EHLO, *replies):
            await reader.readline()
            writer.write(reply)
        while not taken.endswith(b"\r\n.\r\n") and (after is None or len(taken) < after):
            piece = await reader.read(1 << 16)
            if not piece:
                return
            taken.extend(piece)
        writer.write(at_end)
        await asyncio.sleep(0.5)  # reads no more
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await Connection.open("127.0.0.1", port, "mx.test", Timeouts(5, 5, 5, 5))
    try:
        yield connection, taken
    finally:
        connection.close()
        server.close()


def parcel(body):
    return Parcel("bob@x.test", len(body), False, False, body, None)


OK = b"250 ok\r\n"
ANN, EVE = Addressee("ann@y.test"), Addressee("eve@y.test")


LAST_DOT = b"Subject: x\r\n\r\n..x\r\n."  # CASES 47


@pytest.mark.spec("R3")
@pytest.mark.parametrize("body", [b"Subject: x\r\n\r\n.\r\n..\r\nx\r\n", b"..test\r\n", LAST_DOT, LARGE, LARGE[:-2]])
async def test_case_47_a_body_goes_out_whole_and_its_reply_is_heard_however_quick_it_is(body):
    async with scripted(OK, OK, b"354 go on\r\n") as (connection, taken):
        came = await exchange(connection, parcel(body), [ANN])
    assert str(came.answers[0]) == "250 2.0.0 taken"
    ended = body if body.endswith(b"\r\n") else body + b"\r\n"
    assert bytes(taken) == (b"\r\n" + ended).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@pytest.mark.spec("R3")
@pytest.mark.parametrize(
    "reply,heard",
    [
        (b"552 5.3.4 too large\r\n", "552 5.3.4 too large"),
        (b"421 4.3.2 going down\r\n", "421 4.3.2 going down"),
        (b"250 2.0.0 taken\r\n", "the mail server replied before the message's end"),
    ],
)
async def test_a_reply_before_the_end_ends_the_dialogue_and_never_counts_as_taken(reply, heard):
    async with scripted(OK, OK, b"354 go on\r\n", at_end=reply, after=200_000) as (connection, _):
        came = await exchange(connection, parcel(LARGE * 30), [ANN])
        assert str(came.answers[0]) == heard
        assert came.answers[0].stage is Stage.END
        assert not connection.is_open


@pytest.mark.spec("R3")
async def test_a_reply_too_many_ends_the_dialogue_before_a_refusal_hits_another_recipient():
    async with scripted(b"250 ok\r\n250 ok\r\n", b"550 5.1.1 no ann\r\n", OK) as (connection, _):
        with pytest.raises(Unusable):
            await exchange(connection, parcel(b"x\r\n"), [ANN, EVE])
        assert not connection.is_open


@pytest.mark.spec("R3", "R4")
@pytest.mark.parametrize("body", [b"x\r\n", LARGE])
@pytest.mark.parametrize("more", [b"250 2.0.0 taken\r\n", b"250", b"550 5.7.1 no\r\n"])
async def test_a_reply_behind_the_354_is_never_taken_for_the_one_to_the_message(body, more):
    async with scripted(OK, OK, b"354 go on\r\n" + more, at_end=b"550 5.7.1 no\r\n") as (connection, taken):
        came = await exchange(connection, parcel(body), [ANN])
        assert (came.answers[0].code, str(came.answers[0])) == (0, "the mail server replied before the message's end")
        assert not connection.is_open
        assert taken == b""
