"""Stored documents of mail: messages, their recipients, and the steps of their trace (SPEC V1, V4)."""

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from postern_common.documents import MessageState, RecipientState


class RecipientDocument(TypedDict):
    """One recipient of a message and its last attempt's result; `original` is the address as the client gave it."""

    address: str
    key: str
    user_id: str | None
    state: RecipientState
    reply: str | None
    next_hop: str | None
    attempts: int
    next_attempt_at: datetime | None
    notify: list[str]
    orcpt: str | None


class StepDocument(TypedDict):
    """A step of a message's trace."""

    at: datetime
    actor: str
    what: str
    detail: str


class MessageDocument(TypedDict):
    """A message and its delivery. Owner: smtp-edge. `due_at` is the earliest attempt that is left; `lease_until` keeps
    other workers off. `pending_events` are envelopes not yet published (the message path's outbox, DESIGN 3);
    `dispatch` tells that there are any. `body` tells where the body is: here, as `content` until the message is done,
    or apart under the same id. `delete_at` is set when the message is done, by its customer's retention (SPEC R13),
    never before. `order` is what an operator has an edge do to it.
    `tls_waived` marks a report of TLS failures, which goes to its domain whatever its TLS policy says: the very failure
    that it tells of must not hold it up (RFC 8460 3).
    """

    _id: str
    queue_id: str
    customer_id: str
    direction: Literal["inbound", "outbound", "dsn"]
    sender: str
    sender_key: str
    recipients: list[RecipientDocument]
    recipient_keys: list[str]
    subject: str
    message_id: str
    size: int
    peer_ip: str
    helo: str
    tls: dict[str, str] | None
    smtputf8: bool
    body_type: str
    envid: str | None
    ret: str | None
    body: Literal["message", "bodies", "gridfs"]
    content: NotRequired[bytes]
    state: MessageState
    received_at: datetime
    expires_at: datetime
    due_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None
    steps: list[StepDocument]
    dispatch: Literal["pending"] | None
    dispatch_after: datetime | None
    pending_events: list[dict[str, Any]]
    delete_at: datetime | None
    order: NotRequired[dict[str, Any]]
    tls_waived: NotRequired[bool]
    version: int
