"""Turns the conclusion of an attempt into notifications to the sender (SPEC R5, RFC 3461, RFC 3464).

None for the null sender, none past the limit of a sender, and none about notifications: they have the null sender
themselves, so a refused one ends there (CASES 59).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from postern_common.errors import Temporary
from postern_common.ids import new_id
from postern_edge.bodies.store import BodyGone
from postern_edge.interfaces import AcceptedMessage, AcceptedRecipient
from postern_edge.messages import Entry, Terms, new_entry
from postern_edge.rules.conclusion import Conclusion, Told
from postern_edge.rules.dsn import LARGEST_RETURNED, Action, Report, ReportedRecipient, build, header_section

Original = Callable[[], Awaitable[bytes]]


def wanted(conclusion: Conclusion) -> list[tuple[Action, list[Told]]]:
    """The notifications that an attempt asks for."""
    kinds = (
        (Action.FAILED, conclusion.failed),
        (Action.DELAYED, conclusion.delayed),
        (Action.RELAYED, conclusion.relayed),
    )
    return [(action, told) for action, told in kinds if told]


class Notices:
    """Builds notifications as messages of their own. `hostname` is this edge's name."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname

    async def build(
        self,
        message: Mapping[str, Any],
        action: Action,
        told: Sequence[Told],
        original: Original,
        terms: Terms,
    ) -> Entry:
        """One notification, ready to be stored. `original` gives the message's bytes, or their beginning."""
        notice_id = new_id("msg")
        message_id = f"<{notice_id}@{self._hostname}>"
        body = build(await self._report(message, action, told, original, terms.now, message_id))
        accepted = AcceptedMessage(
            queue_id=_queue_id(notice_id),
            peer_ip="",
            helo=self._hostname,
            tls=None,
            sender="",
            recipients=[
                AcceptedRecipient(message["sender"], message["sender"], message["customer_id"], None, ("NEVER",))
            ],
            body=body,
            stored_body=None,
            size=len(body),
            smtputf8=False,
            body_type="7BIT" if body.isascii() else "8BITMIME",
            envid=None,
            ret=None,
            subject="",
            message_id=message_id,
            received_at=terms.now,
        )
        return new_entry(accepted, notice_id, message["customer_id"], accepted.recipients, terms, "dsn")

    async def _report(
        self,
        message: Mapping[str, Any],
        action: Action,
        told: Sequence[Told],
        original: Original,
        now: datetime,
        message_id: str,
    ) -> Report:
        try:
            content = await original()
        except (BodyGone, Temporary):
            content = b""  # better a notification without the headers than none
        returned = message["ret"] == "FULL" and action is Action.FAILED and message["size"] <= LARGEST_RETURNED
        recipients = [
            ReportedRecipient(
                message["recipients"][one.index]["address"],
                message["recipients"][one.index]["orcpt"],
                one.answer,
            )
            for one in told
        ]
        return Report(
            action=action,
            hostname=self._hostname,
            message_id=message_id,
            sender=message["sender"],
            envid=message["envid"],
            arrived_at=message["received_at"],
            now=now,
            retry_until=message["expires_at"],
            recipients=recipients,
            headers=header_section(content),
            whole=content if returned else None,
        )


def _queue_id(message_id: str) -> str:
    return message_id[-10:].upper()
