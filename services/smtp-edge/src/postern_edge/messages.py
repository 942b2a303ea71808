"""The stored form of a message: one document for each customer among the recipients, with its event embedded (DESIGN
3).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from postern_common.addresses import address_key
from postern_common.envelope import Envelope
from postern_common.events import MessageReceived
from postern_common.ids import new_id
from postern_edge.interfaces import AcceptedMessage, AcceptedRecipient

SERVICE: Final = "smtp-edge"
PUBLISH_GRACE: Final = timedelta(seconds=60)  # how long the accepting process has before a sweeper publishes its event
Document = dict[str, Any]
BodyPlace = Literal["message", "bodies", "gridfs"]
EMBEDDED_BYTES: Final = 80 * 1024  # above it, each change of the message costs more than a second document saves


@dataclass(frozen=True, slots=True)
class Lease:
    """Who works on a message first, and until when; an `owner` of None leaves it to whoever claims it."""

    owner: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a new message begins with: the database's time, its first lease, and how long its delivery is tried."""

    now: datetime
    lease: Lease
    lifetime: timedelta


@dataclass(slots=True)
class Entry:
    """A message on its way through this process; `body` is None when it lies in the store alone.

    `document` is without the body, also where the stored one has it as `content`. `events` are those embedded in the
    document that this process is to publish.
    """

    document: Document
    body: bytes | None
    events: list[Envelope] = field(default_factory=list)

    @property
    def message_id(self) -> str:
        """The message's id."""
        return str(self.document["_id"])


def split(message: AcceptedMessage, terms: Terms) -> list[Entry]:
    """The stored messages, one for each customer, in the order of their first recipients."""
    by_customer: dict[str, list[AcceptedRecipient]] = {}
    for recipient in message.recipients:
        by_customer.setdefault(recipient.customer_id, []).append(recipient)
    stored = message.stored_body
    entries: list[Entry] = []
    for customer_id, recipients in by_customer.items():
        # The first message takes over the id under which the body was uploaded, if it was.
        message_id = stored.body_id if stored is not None and not entries else new_id("msg")
        entries.append(new_entry(message, message_id, customer_id, recipients, terms))
    return entries


def new_entry(
    message: AcceptedMessage,
    message_id: str,
    customer_id: str,
    recipients: list[AcceptedRecipient],
    terms: Terms,
    direction: Literal["inbound", "dsn"] = "inbound",
) -> Entry:
    """One customer's message, with its event."""
    envelope = _received(message, message_id, customer_id, len(recipients), direction)
    document = {
        **_document(message, customer_id, recipients, terms),
        "_id": message_id,
        "direction": direction,
        "pending_events": [envelope.to_document()],
    }
    return Entry(document, message.body if message.stored_body is None else None, [envelope])


def _received(
    message: AcceptedMessage, message_id: str, customer_id: str, recipients: int, direction: Literal["inbound", "dsn"]
) -> Envelope:
    event = MessageReceived(
        customer_id=customer_id,
        message_id=message_id,
        queue_id=message.queue_id,
        direction=direction,
        size=message.size,
        recipients=recipients,
    )
    return Envelope.of(event, service=SERVICE, now=message.received_at)


def _document(
    message: AcceptedMessage, customer_id: str, recipients: list[AcceptedRecipient], terms: Terms
) -> Document:
    """Text that came from outside is made storable: lone surrogates are replaced.

    What is decided by time counts from the database's, not from this machine's, whose clock may be wrong. A message
    that is not done has no `delete_at`: nothing may remove it, however long an operator holds it.
    """
    now = terms.now
    return {
        "queue_id": message.queue_id,
        "customer_id": customer_id,
        "sender": storable(message.sender),
        "sender_key": _key(message.sender),
        "recipients": [_recipient(recipient, now) for recipient in recipients],
        "recipient_keys": [_key(recipient.address) for recipient in recipients],
        "subject": storable(message.subject),
        "message_id": storable(message.message_id),
        "size": message.size,
        "peer_ip": message.peer_ip,
        "helo": storable(message.helo),
        "tls": {"version": message.tls.version, "cipher": message.tls.cipher} if message.tls else None,
        "smtputf8": message.smtputf8,
        "body_type": message.body_type,
        "envid": _storable_or_none(message.envid),
        "ret": message.ret,
        "body": _place(message),
        "state": "queued",
        "received_at": message.received_at,
        "expires_at": now + terms.lifetime,
        "due_at": now,
        "lease_owner": terms.lease.owner,
        "lease_until": terms.lease.until,
        "steps": [_received_step(message)],
        "dispatch": "pending",
        "dispatch_after": now + PUBLISH_GRACE,
        "delete_at": None,
        "version": 1,
    }


def _place(message: AcceptedMessage) -> BodyPlace:
    """Where the body is kept: with the message, apart from it, or, as it was stored while it came, in GridFS."""
    if message.stored_body is not None:
        return "gridfs"
    return "message" if len(message.body) <= EMBEDDED_BYTES else "bodies"


def _received_step(message: AcceptedMessage) -> Document:
    return step(message.received_at, "received", f"from {message.peer_ip or 'this edge'}, {message.size} octets")


def step(at: datetime, what: str, detail: str) -> Document:
    """One step of the trace."""
    return {"at": at, "actor": SERVICE, "what": what, "detail": storable(detail)}


def storable(text: str) -> str:
    """Text that the database takes: without lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")


def _storable_or_none(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _key(address: str) -> str:
    local, _, domain = storable(address).rpartition("@")
    return address_key(local, domain) if local else storable(address).casefold()


def _recipient(recipient: AcceptedRecipient, now: datetime) -> Document:
    return {
        "address": storable(recipient.address),
        "key": _key(recipient.address),
        "original": storable(recipient.original),
        "user_id": recipient.user_id,
        "state": "accepted",
        "reply": None,
        "next_hop": None,
        "attempts": 0,
        "next_attempt_at": now,
        "notify": list(recipient.notify),
        "orcpt": _storable_or_none(recipient.orcpt),
    }
