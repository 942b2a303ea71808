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


PIPELINING = b"250-hop.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n"


@asynccontextmanager
async def grouped(*replies, after_message=(), step=0):
    """A connection to a server that offers PIPELINING: it reads what comes at once, says `replies` to it, `step` octets
    at a time, and after a message `after_message` in turn."""
    heard = []

    async def say(writer, octets):
        for start in range(0, len(octets), step or len(octets)):
            writer.write(octets[start : start + (step or len(octets))])
            await asyncio.sleep(0.001 if step else 0)

    async def serve(reader, writer):
        writer.write(GREETING)
        for reply in (PIPELINING, b"".join(replies), *after_message):
            heard.append(await reader.read(1 << 16))
            if not heard[-1]:
                return
            await say(writer, reply)
        await reader.read(1 << 16)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await Connection.open("127.0.0.1", port, "mx.test", Timeouts(5, 5, 5, 5))
    try:
        yield connection, heard
    finally:
        connection.close()
        server.close()


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


NO_EVE, GO_ON = b"550 5.1.1 no eve\r\n", b"354 go on\r\n"
ENVELOPE = b"MAIL FROM:<bob@x.test>\r\nRCPT TO:<ann@y.test>\r\nRCPT TO:<eve@y.test>\r\nDATA\r\n"


@pytest.mark.spec("R3")
@pytest.mark.parametrize("step", [0, 1])
async def test_the_envelope_goes_in_one_group_and_each_recipient_has_its_own_reply(step):
    taken = [b"250 2.0.0 taken\r\n"]
    async with grouped(OK, OK, NO_EVE, GO_ON, after_message=taken, step=step) as (connection, heard):
        came = await exchange(connection, parcel(b"x\r\n"), [ANN, EVE])
        assert connection.is_open
        assert not connection.in_transaction
    assert [str(one) for one in came.answers] == ["250 2.0.0 taken", "550 5.1.1 no eve"]
    assert [one.stage for one in came.answers] == [Stage.END, Stage.RCPT]
    assert heard[1:3] == [ENVELOPE, b"x\r\n.\r\n"]


@pytest.mark.spec("R3")
async def test_a_server_that_waits_for_a_message_to_nobody_gets_an_empty_one_and_is_used_again():
    no_ann = b"450 4.2.0 not now\r\n"
    then = [b"554 5.5.1 no valid recipients\r\n", OK]
    async with grouped(OK, no_ann, NO_EVE, GO_ON, after_message=then) as (connection, heard):
        came = await exchange(connection, parcel(b"x\r\n"), [ANN, EVE])
        assert connection.is_open
        assert not connection.in_transaction
    assert [str(one) for one in came.answers] == ["450 4.2.0 not now", "550 5.1.1 no eve"]
    assert heard[2:4] == [b"\r\n.\r\n", b"RSET\r\n"]


@pytest.mark.spec("R3", "R5")
async def test_a_server_that_hangs_up_on_a_message_to_nobody_has_refused_its_recipients_all_the_same():
    async with grouped(OK, b"550 5.1.1 no ann\r\n", NO_EVE, b"354 go on\r\n") as (connection, _):
        came = await exchange(connection, parcel(b"x\r\n"), [ANN, EVE])
        assert [one.code for one in came.answers] == [550, 550]
        assert not connection.is_open


@pytest.mark.spec("R3")
async def test_a_sender_that_is_refused_is_so_for_all_whatever_the_server_says_to_the_rest_of_the_group():
    no_bob, first = b"550 5.7.1 not you\r\n", b"503 5.5.1 MAIL first\r\n"
    async with grouped(no_bob, first, first, first) as (connection, heard):
        came = await exchange(connection, parcel(b"x\r\n"), [ANN, EVE])
        assert connection.is_open
        assert not connection.in_transaction
    assert [str(one) for one in came.answers] == ["550 5.7.1 not you"] * 2
    assert len(heard) == 2


@pytest.mark.spec("R3")
async def test_a_farewell_within_the_group_counts_for_all_and_closes():
    async with grouped(OK, b"421 4.3.2 going down\r\n") as (connection, _):
        with pytest.raises(Unusable) as told:
            await exchange(connection, parcel(b"x\r\n"), [ANN, EVE])
        assert str(told.value.answer) == "421 4.3.2 going down"
        assert told.value.answer.stage is Stage.RCPT


@pytest.mark.spec("R3")
async def test_data_that_is_put_off_is_so_for_those_that_were_taken():
    async with grouped(OK, OK, NO_EVE, b"451 4.3.1 full\r\n", after_message=[OK]) as (connection, heard):
        came = await exchange(connection, parcel(b"x\r\n"), [ANN, EVE])
        assert not connection.in_transaction
    assert [str(one) for one in came.answers] == ["451 4.3.1 full", "550 5.1.1 no eve"]
    assert heard[2] == b"RSET\r\n"


@pytest.mark.spec("R3")
async def test_one_reply_more_than_there_were_commands_ends_the_dialogue():
    async with grouped(OK, OK, NO_EVE, b"451 4.3.1 full\r\n", OK) as (connection, _):
        with pytest.raises(Unusable, match="out of step"):  # the refusals may be others': none counts
            await exchange(connection, parcel(b"x\r\n"), [ANN, EVE])
        assert not connection.is_open


@pytest.mark.spec("R3")
async def test_what_is_no_reply_ends_the_dialogue_and_is_told():
    async with grouped(OK, b"hello?\r\n") as (connection, _):
        with pytest.raises(Unusable) as told:
            await exchange(connection, parcel(b"x\r\n"), [ANN])
        assert "malformed reply" in str(told.value)
        assert not connection.is_open
