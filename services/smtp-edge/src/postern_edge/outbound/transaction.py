"""One mail transaction on one connection (RFC 5321 3.3), with a result for each recipient.

Extensions are used where they are needed and offered: SIZE, 8BITMIME, SMTPUTF8 and DSN. What the server cannot carry
is said before MAIL: it is a permanent failure of that server, not a guess (CASES 62, 63). Nothing is ever re-encoded.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from postern_edge.adapters.smtp import Connection, Unusable
from postern_edge.rules.classify import Answer, Stage
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
    passes_dsn_on = connection.offers("dsn")
    if all(answers):
        return Exchange([given for given in answers if given is not None], passes_dsn_on, connection.tls)
    utf8 = any(_needs_utf8(parcel, one) for one, given in zip(addressees, answers, strict=True) if given is None)
    encoding = "utf-8" if utf8 else "ascii"
    connection.in_transaction = True
    mail = await connection.command(
        Stage.MAIL,
        b"MAIL",
        b"FROM:<" + parcel.sender.encode(encoding) + b">",
        *_mail_parameters(connection, parcel, utf8=utf8),
    )
    if mail.code == 503 and connection.used:
        raise Unusable(mail)  # CASES 61: the last transaction is not over for the server
    if mail.code // 100 != 2:
        connection.in_transaction = False  # RFC 5321 3.3: nothing was begun
        return Exchange([given or mail for given in answers], passes_dsn_on, connection.tls)
    for index, one in enumerate(addressees):
        if answers[index] is None:
            given = await connection.command(
                Stage.RCPT,
                b"RCPT",
                b"TO:<" + one.address.encode(encoding) + b">",
                *_rcpt_parameters(one, passes_dsn_on),
            )
            answers[index] = None if given.code // 100 == 2 else given
    if not all(answers):
        final = await _data(connection, parcel)
        answers = [given or final for given in answers]
    else:
        await _reset(connection)
    return Exchange([given for given in answers if given is not None], passes_dsn_on, connection.tls)


async def _data(connection: Connection, parcel: Parcel) -> Answer:
    ready = await connection.command(Stage.DATA, b"DATA")
    if ready.code != 354:
        if ready.code // 100 not in {4, 5}:
            connection.close()  # out of step
            return Answer(Stage.DATA, 0, f"unexpected reply: {ready}")
        await _reset(connection)
        return ready
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


async def _reset(connection: Connection) -> None:
    """Leave a transaction; a server that does not follow is not used again (CASES 61)."""
    try:
        given = await connection.command(Stage.END, b"RSET")
    except Unusable:
        return
    connection.in_transaction = given.code // 100 != 2


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
