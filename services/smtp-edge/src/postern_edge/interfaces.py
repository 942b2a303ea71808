"""The seams between the listener and what stands behind it: the recipient directory and the spool.

The listener promises to call `RecipientDirectory.lookup` once for each RCPT and `Spool.accept` once for each
message, and to say 250 only after `accept` has returned. The implementations promise never to block the loop in
`lookup`, and to return from `accept` only when the message would survive the death of any one process.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from postern_common.errors import Temporary
from postern_edge.rules.paths import Mailbox
from postern_edge.rules.recipients import RecipientAnswer


class SpoolFull(Temporary):
    """The spool takes nothing more for now; the sender is asked to come back (452 4.3.1)."""


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What the TLS handshake of a session agreed on, as shown in the Received line and the trace."""

    version: str
    cipher: str


@dataclass(frozen=True, slots=True)
class AcceptedRecipient:
    """One recipient that got 250, with the customer who owns its domain."""

    address: str  # local part as given (detail kept) @ domain as A-label, quoted where the local part needs it
    original: str  # the forward path exactly as the client wrote it, without the angle brackets
    customer_id: str
    user_id: str | None  # None: accepted by mode (accept_all, postmaster, …), not because it is known
    notify: tuple[str, ...] = ()  # RFC 3461 4.1: () when absent, ("NEVER",) or some of SUCCESS, FAILURE, DELAY
    orcpt: str | None = None  # RFC 3461 4.2, as received ("rfc822;…" in xtext)


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A body that was streamed to the store while it was read."""

    body_id: str
    size: int


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """One message as the listener took it; it may have recipients of several customers, which the spool splits."""

    queue_id: str
    peer_ip: str
    helo: str
    tls: TlsInfo | None
    sender: str  # "" is the null sender
    recipients: list[AcceptedRecipient]
    body: bytes  # with our Received line before it; b"" when `stored_body` is set
    stored_body: StoredBody | None
    size: int  # of the whole body, our Received line included
    smtputf8: bool
    body_type: str  # "7BIT" or "8BITMIME" as the octets are, whatever the client declared (RFC 6152)
    envid: str | None  # RFC 3461 4.4, as received (xtext)
    ret: str | None  # RFC 3461 4.3: "FULL" or "HDRS"
    subject: str  # decoded and shortened, "" when absent
    message_id: str  # with its angle brackets, "" when absent
    received_at: datetime


@dataclass(frozen=True, slots=True)
class SpooledIds:
    """The ids of the stored messages, one for each customer among the recipients."""

    message_ids: tuple[str, ...]


class RecipientDirectory(Protocol):
    """Who takes mail here, answered from memory."""

    def lookup(self, mailbox: Mailbox) -> RecipientAnswer:
        """Say whether mail for this mailbox is taken; `rules.recipients.decide` holds the rule, the directory the
        facts.
        """


class BodyUpload(Protocol):
    """One body on its way to the store; unfinished ones are removed by the store's sweeper."""

    async def write(self, chunk: bytes) -> None:
        """Store the next bytes; raises Temporary when the store does not take them."""

    async def close(self) -> StoredBody:
        """Return the reference when every byte is durable."""

    async def abort(self) -> None:
        """Forget what was written; never raises."""


class Spool(Protocol):
    """Where accepted messages are kept until they are delivered."""

    async def accept(self, message: AcceptedMessage) -> SpooledIds:
        """Return when the message is durable; raise SpoolFull or Temporary when it is not, and then keep nothing.

        Either comes within a bounded time: the client waits, and a stopping service waits for it.
        """

    def open_body(self, queue_id: str) -> BodyUpload:
        """Start streaming a body that is too large, or comes at too busy a time, to be held in memory (DESIGN 6)."""
