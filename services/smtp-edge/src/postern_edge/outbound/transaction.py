"""One mail transaction on one connection (RFC 5321 3.3), with a result for each recipient.

A server that offers PIPELINING gets everything up to DATA in one go (RFC 2920), and the message in a second one.
Extensions are used where they are needed and offered: SIZE, 8BITMIME, SMTPUTF8 and DSN. What the server cannot carry
is said before MAIL: it is a permanent failure of that server, not a guess (CASES 62, 63). Nothing is ever re-encoded.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from postern_edge.adapters.smtp import Connection, Unusable
from postern_edge.rules.classify import Answer, Stage, answer
from postern_edge.rules.tls_policy import TlsUsed

UTF8_NOT_CARRIED = "5.6.7 the mail server does not take international addresses"  # RFC 6531 3.2, RFC 5248 2.4
EIGHT_BIT_NOT_CARRIED = "5.6.3 the mail server does not take 8-bit content"  # RFC 6152 3
TOO_LARGE = "5.3.4 the message is larger than the mail server takes"  # RFC 1870 6.1


@dataclass(frozen=True, slots=True)
class Addressee:
    """A recipient with its wishes (RFC 3461)."""

    address: str
    notify: tuple[str, ...] = ()
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message as a transaction needs it. Exactly one of `body` and `pieces` is set."""

    sender: str
    size: int
    is_eight_bit: bool
    utf8_headers: bool  # the header section itself needs SMTPUTF8
    body: bytes | None
    pieces: Callable[[], AsyncIterator[bytes]] | None
    envid: str | None = None
    ret: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """The answers, one for each recipient in order; `passes_dsn_on` where the server took the wishes over; `tls` where
    there was a connection.
    """

    answers: list[Answer]
    passes_dsn_on: bool
    tls: TlsUsed | None = None


async def exchange(connection: Connection, parcel: Parcel, addressees: Sequence[Addressee]) -> Exchange:
    """Hand `parcel` over for all addressees in one transaction. Raises `Unusable` when the connection breaks before
    DATA.
    """
    answers: list[Answer | None] = [_cannot_carry(connection, parcel, one) for one in addressees]
    asked = [index for index, given in enumerate(answers) if given is None]
    if asked:
        await _hand_over(connection, parcel, addressees, answers, asked)
    return Exchange([one for one in answers if one is not None], connection.offers("dsn"), connection.tls)


async def _hand_over(
    connection: Connection,
    parcel: Parcel,
    addressees: Sequence[Addressee],
    answers: list[Answer | None],
    asked: Sequence[int],
) -> None:
    """One transaction for the recipients at the places `asked`; their answers are put into `answers`."""
    connection.in_transaction = True
    mail, *others = await _begin(connection, _commands(connection, parcel, [addressees[index] for index in asked]))
    if mail.code == 503 and connection.used:
        raise Unusable(mail)  # CASES 61: the last transaction is not over for the server
    is_begun = mail.code // 100 == 2
    for number, index in enumerate(asked):
        if not is_begun:
            answers[index] = mail
        elif others[number].code // 100 != 2:
            answers[index] = others[number]
    ready = others[len(asked)] if len(others) > len(asked) else None
    for given in (mail, *others[: len(asked)]):
        if given.code // 100 not in {2, 4, 5}:
            _give_up(connection, given)  # the reply to another command: then those beside it are others' too
    taken = [index for index in asked if answers[index] is None]
    if taken:
        final = await _data(connection, parcel, ready or await connection.command(Stage.DATA, b"DATA"))
        for index in taken:
            answers[index] = final
        return
    waits = ready is not None and ready.code == 354
    if is_begun or waits:
        await _leave(connection, waits=waits)
    else:
        connection.in_transaction = False  # RFC 5321 3.3: nothing was begun


async def _begin(connection: Connection, commands: Sequence[tuple[Stage, bytes]]) -> list[Answer]:
    """The replies to MAIL and to each RCPT, and to DATA where all were sent together (RFC 2920); one by one, the
    commands end with a MAIL that is refused.
    """
    if connection.offers("pipelining") and not connection.one_by_one:
        return await connection.group([*commands, (Stage.DATA, b"DATA")])
    answers = []
    for stage, line in commands:
        answers.append(await connection.command(stage, line))
        if stage is Stage.MAIL and answers[0].code // 100 != 2:
            break
    return answers


def _commands(connection: Connection, parcel: Parcel, addressees: Sequence[Addressee]) -> list[tuple[Stage, bytes]]:
    """MAIL, and RCPT for each addressee."""
    utf8 = any(_needs_utf8(parcel, one) for one in addressees)
    encoding = "utf-8" if utf8 else "ascii"
    dsn = connection.offers("dsn")
    mail = b"MAIL FROM:<" + parcel.sender.encode(encoding) + b">"
    commands = [(Stage.MAIL, b" ".join([mail, *_mail_parameters(connection, parcel, utf8=utf8)]))]
    for one in addressees:
        rcpt = b"RCPT TO:<" + one.address.encode(encoding) + b">"
        commands.append((Stage.RCPT, b" ".join([rcpt, *_rcpt_parameters(one, dsn)])))
    return commands


async def _data(connection: Connection, parcel: Parcel, ready: Answer) -> Answer:
    """Send the message after the reply to DATA."""
    if ready.code // 100 in {4, 5}:
        await _leave(connection)
        return ready
    if ready.code != 354:
        _give_up(connection, ready)
    try:
        if parcel.body is not None:
            final = await connection.send(parcel.body)
        else:
            assert parcel.pieces is not None  # noqa: S101 - the other one of the two
            final = await connection.stream(parcel.pieces())
    except Unusable as error:
        return error.answer  # whether the message was taken is not known: the next attempt comes at its time
    connection.in_transaction = False
    return final


async def _leave(connection: Connection, *, waits: bool = False) -> None:
    """Leave a transaction; a server that does not follow is not used again (CASES 61). One that `waits` does so for a
    message to nobody, and gets an empty one (RFC 2920 3.1).

    It is here that a server shows which has said more than it was asked. Its refusals may be other recipients', so
    none of them counts.
    """
    try:
        if waits:
            await connection.send(b"")
        given = await connection.command(Stage.END, b"RSET")
    except Unusable:
        if connection.is_astray:
            _give_up(connection, Answer(Stage.END, 0, "a reply that was not asked for"))
        return
    if given.code == 354:
        _give_up(connection, given)
    connection.in_transaction = given.code // 100 != 2


def _give_up(connection: Connection, given: Answer) -> NoReturn:
    """End a dialogue that is out of step."""
    connection.close()
    raise Unusable(answer(Stage.DATA, 0, f"out of step: {given}"))


def _needs_utf8(parcel: Parcel, one: Addressee) -> bool:
    return parcel.utf8_headers or not parcel.sender.isascii() or not one.address.isascii()


def _cannot_carry(connection: Connection, parcel: Parcel, one: Addressee) -> Answer | None:
    if _needs_utf8(parcel, one) and not connection.offers("smtputf8"):
        return Answer(Stage.MAIL, 0, UTF8_NOT_CARRIED, permanent=True)
    if parcel.is_eight_bit and not connection.offers("8bitmime"):
        return Answer(Stage.MAIL, 0, EIGHT_BIT_NOT_CARRIED, permanent=True)
    limit = connection.max_size
    if limit is not None and parcel.size > limit:
        return Answer(Stage.MAIL, 0, TOO_LARGE, permanent=True)
    return None


def _mail_parameters(connection: Connection, parcel: Parcel, *, utf8: bool) -> list[bytes]:
    parameters = []
    if connection.offers("size"):
        parameters.append(f"SIZE={parcel.size}")
    if parcel.is_eight_bit:
        parameters.append("BODY=8BITMIME")
    if utf8:
        parameters.append("SMTPUTF8")
    if connection.offers("dsn"):
        if parcel.ret:
            parameters.append(f"RET={parcel.ret}")
        if parcel.envid:
            parameters.append(f"ENVID={parcel.envid}")
    return [parameter.encode("ascii", "replace") for parameter in parameters]


def _rcpt_parameters(one: Addressee, dsn: bool) -> list[bytes]:
    parameters = []
    if dsn:
        if one.notify:
            parameters.append("NOTIFY=" + ",".join(one.notify))
        if one.orcpt:
            parameters.append(f"ORCPT={one.orcpt}")
    return [parameter.encode("utf-8") for parameter in parameters]
