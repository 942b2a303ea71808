"""Mail of Postern's own, put into the edges' queue by another service, as documents that an edge claims when due.

It goes to its recipient by MX, like a notification: with the null sender, so that nothing ever comes back. It belongs
to no customer. Both documents are inserted in one transaction with whatever tells that the mail is on its way.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.addresses import Address
from postern_common.ids import new_id

OWN: Final = "postern"  # in the place of a customer's id
SENDER: Final = ""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OwnMail:
    """A mail to one recipient: a whole message in ASCII with CRLF line ends, tried for `lifetime`.

    `service` and `why` stand in its trace. `tls_waived` has it delivered whatever the TLS policy of the recipient's
    domain is.
    """

    recipient: Address
    subject: str
    message_id: str
    body: bytes
    lifetime: timedelta
    service: str
    why: str
    tls_waived: bool = False


def documents(mail: OwnMail, now: datetime) -> tuple[Document, Document]:
    """The stored message (`MessageDocument`) and its body; `now` is the database's time."""
    message_id = new_id("msg")
    address = str(mail.recipient)
    message: Document = {
        "_id": message_id,
        "queue_id": message_id[-10:].upper(),
        "customer_id": OWN,
        "direction": "dsn",
        "sender": SENDER,
        "sender_key": SENDER,
        "recipients": [_recipient(mail.recipient, now)],
        "recipient_keys": [mail.recipient.key],
        "subject": mail.subject,
        "message_id": mail.message_id,
        "size": len(mail.body),
        "peer_ip": "",
        "helo": "",
        "tls": None,
        "smtputf8": not address.isascii(),
        "body_type": "7BIT",
        "envid": None,
        "ret": None,
        "body": "bodies",
        "state": "queued",
        "received_at": now,
        "expires_at": now + mail.lifetime,
        "due_at": now,
        "lease_owner": None,
        "lease_until": None,
        "steps": [{"at": now, "actor": mail.service, "what": "received", "detail": mail.why}],
        "dispatch": None,
        "dispatch_after": None,
        "pending_events": [],
        "delete_at": None,
        "tls_waived": mail.tls_waived,
        "version": 1,
    }
    body = {"_id": message_id, "customer_id": OWN, "data": mail.body, "stored_at": now}
    return message, body


def _recipient(recipient: Address, now: datetime) -> Document:
    return {
        "address": str(recipient),
        "key": recipient.key,
        "original": str(recipient),
        "user_id": None,
        "state": "accepted",
        "reply": None,
        "next_hop": None,
        "attempts": 0,
        "next_attempt_at": now,
        "notify": ["NEVER"],
        "orcpt": None,
    }
