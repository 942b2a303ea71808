"""The part of the reference model that knows messages: what their end is answered with, and what must be stored."""

import re
from dataclasses import dataclass, field
from typing import Final

from postern_edge import replies
from postern_edge.replies import Reply
from tests.servers.edge_wire import LIMITS, Stored

HEADER: Final = 1150  # in these tests the header section ends within so many octets
QUEUED: Final = re.compile(rb"250 2\.0\.0 OK: queued as ([0-9A-Za-z]+)\r\n")
_TRACE: Final = re.compile(
    rb"Received: from [^\r\n]+(\r\n\t[^\r\n]+)*\r\n\tby mx\.postern\.test with [A-Z0-9]+ id ([0-9A-Za-z]+)"
    rb"(\r\n\tfor <[^\r\n]+>)?;\r\n\t[^\r\n]+\r\n"
)


class Mismatch(AssertionError):
    """The session did what the model does not allow."""


@dataclass(slots=True)
class Transaction:
    """What MAIL and RCPT have settled; not `sure` once an argument was taken that the tables do not have."""

    has_sender: bool = False
    sender: str | None = None
    size: int | None = None
    utf8: bool = False
    sure: bool = True
    recipients: list[str | None] = field(default_factory=list)
    max_size: int = LIMITS.max_message_bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that got 250."""

    queue_id: bytes
    transaction: Transaction
    body: bytes


def owed(body: bytes, transaction: Transaction, failure: str) -> list[Reply | None]:
    """The replies that may be said to a message with this body; None is "queued as"."""
    if len(body) > LIMITS.max_message_bytes or (transaction.sure and len(body) > transaction.max_size):
        return [replies.TOO_LARGE]
    perhaps: list[Reply | None] = [] if transaction.sure or len(body) <= 2000 else [replies.TOO_LARGE]
    if b"\0" in body:
        return [*perhaps, replies.NUL_IN_MESSAGE]
    if any(len(line) + 2 > LIMITS.line_bytes for line in body.split(b"\r\n")):
        return [*perhaps, replies.LINE_TOO_LONG]
    if failure == "upload":
        perhaps.append(replies.SOME_FAILURE)  # if it was large enough at the right time to be streamed
    if len(body) > HEADER and b"\r\n\r\n" not in body[:HEADER] and not body.startswith(b"\r\n"):
        return [*perhaps, replies.HEADER_TOO_LARGE]
    section = (b"\r\n" + body).partition(b"\r\n\r\n")[0]
    if len(re.findall(rb"(?i)\r\nreceived:", section)) > 100:
        return [*perhaps, replies.MAIL_LOOP]
    if failure in {"", "upload"}:
        return [*perhaps, None]
    return [*perhaps, replies.SPOOL_FULL if failure == "full" else replies.SOME_FAILURE]


def check_stored(stored: list[Stored], taken: list[Taken], pending: bytes | None, client: str) -> None:
    """The stored messages are those that got 250; one more may be there whose client left before the reply."""
    left = iter(stored)
    for one in taken:
        found = next(left, None)
        if found is None or found.message.queue_id.encode() != one.queue_id:
            raise Mismatch(f"message {one.queue_id!r} got 250 and is not in the spool")
        _check_octets(found, one.body, client)
        _check_envelope(found, one.transaction)
    for found in left:
        if pending is None:
            raise Mismatch(f"a message that never got 250: {found.octets!r}")
        _check_octets(found, pending, client)
        pending = None


def _check_envelope(found: Stored, transaction: Transaction) -> None:
    message = found.message
    if transaction.sender is not None and message.sender != transaction.sender:
        raise Mismatch(f"sender {message.sender!r} instead of {transaction.sender!r}")
    addresses = [recipient.address for recipient in message.recipients]
    known = [address for address in transaction.recipients if address is not None]
    if not set(known) <= set(addresses) or len(addresses) > len(transaction.recipients):
        raise Mismatch(f"recipients {addresses} instead of {transaction.recipients}")


def _check_octets(found: Stored, body: bytes, client: str) -> None:
    trace = _TRACE.match(found.octets)
    if trace is None or trace[2] != found.message.queue_id.encode():
        raise Mismatch(f"no trace line of ours: {found.octets[:300]!r}")
    if found.octets[trace.end() :] != body:
        raise Mismatch(f"other octets: {found.octets[trace.end() :]!r} instead of {body!r}")
    if found.message.size != len(found.octets):
        raise Mismatch(f"size {found.message.size} of {len(found.octets)} octets")
    if found.message.peer_ip != client:
        raise Mismatch(f"from {found.message.peer_ip} instead of {client}")
