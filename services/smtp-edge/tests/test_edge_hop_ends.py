"""How dialogues with next hops end: nothing that comes before the end counts as it, and nothing stays behind."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from postern_edge.adapters.smtp import Connection, Timeouts
from postern_edge.outbound.transaction import Addressee, Parcel, exchange

pytestmark = pytest.mark.spec("R3")

ANN = Addressee("ann@y.test")
BODY = b"Subject: x\r\n\r\nx\r\n"


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def connected(rest, reply_seconds=5.0):
    """A connection to a server that takes an envelope for one recipient, and then does `rest(reader, writer)`."""
    over = asyncio.Event()

    async def serve(reader, writer):
        writer.write(b"220 hop.test\r\n")
        for reply in (b"250 hop.test\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n"):
            await reader.readline()
            writer.write(reply)
        await rest(reader, writer)
        await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    timeouts = Timeouts(5, 5, reply_seconds, 5)
    connection = await Connection.open("127.0.0.1", server.sockets[0].getsockname()[1], "mx.test", timeouts)
    try:
        yield connection
    finally:
        over.set()
        connection.close()
        server.close()


async def test_a_server_that_speaks_while_the_last_piece_is_looked_for_has_not_taken_the_message():
    said = asyncio.Event()

    async def rest(reader, writer):
        await reader.readuntil(BODY)
        writer.write(b"250 2.0.0 taken\r\n")
        await writer.drain()
        said.set()

    async def pieces():
        yield BODY
        await said.wait()
        await asyncio.sleep(0.05)  # the store may take its time to say that this was all

    async with connected(rest) as connection:
        came = await exchange(connection, Parcel("bob@x.test", 1 << 21, False, False, None, pieces), [ANN])
    assert (came.answers[0].code, came.answers[0].text) == (0, "the mail server replied before the message's end")


@pytest.mark.parametrize("word", [b"354 go on\r\n", b"199 well\r\n"])
async def test_a_server_whose_last_word_is_none_is_not_used_again(word):
    async def rest(reader, writer):
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(word)

    async with connected(rest) as connection:
        came = await exchange(connection, Parcel("bob@x.test", len(BODY), False, False, BODY, None), [ANN])
        assert came.answers[0].code == int(word[:3])
        assert not connection.is_open  # the word on the message may follow, and would be taken for the next one's


async def test_nothing_stays_behind_of_a_server_that_reads_no_more():
    async def rest(_reader, _writer):
        pass

    large = BODY * 1_000_000
    async with connected(rest, reply_seconds=0.3) as connection:
        before = open_files()
        came = await exchange(connection, Parcel("bob@x.test", len(large), False, False, large, None), [ANN])
        assert came.answers[0].text == "timed out"
        await asyncio.sleep(0.1)
        assert open_files() == before - 1, "the connection waits for a server that does not read"
