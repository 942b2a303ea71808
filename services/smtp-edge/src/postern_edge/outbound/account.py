"""The account of an attempt: its events and its steps in the trace, one for each answer of each next hop."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from postern_common.documents import RecipientState
from postern_common.envelope import Envelope
from postern_common.events import DeliveryEvent, DeliveryTls, MessageBounced, MessageDeferred, MessageDelivered
from postern_edge.messages import SERVICE, Document, step
from postern_edge.rules.conclusion import DELAY_NOTED, Change, Conclusion
from postern_edge.rules.dsn import Action

NAMED_RECIPIENTS: Final = 5
TOLD_APART: Final = 10  # answers of one attempt; a server may have another word for each of its recipients


def events_of(message: Mapping[str, Any], conclusion: Conclusion, now: datetime, *, dsn_sent: bool) -> list[Envelope]:
    """MessageDelivered, MessageDeferred and MessageBounced (SPEC V1)."""
    return [
        Envelope.of(_event(message, changes, dsn_sent=dsn_sent), service=SERVICE, now=now)
        for changes in _alike(conclusion)
    ]


def _event(message: Mapping[str, Any], changes: list[Change], *, dsn_sent: bool) -> DeliveryEvent:
    first = changes[0]
    shared: dict[str, Any] = {
        "customer_id": message["customer_id"],
        "message_id": message["_id"],
        "queue_id": message["queue_id"],
        "recipients": len(changes),
        "next_hop": first.next_hop,
        "reply": first.reply,
        "tls": first.tls and {name: getattr(first.tls, name) for name in DeliveryTls.model_fields},
    }
    if first.state is RecipientState.DELIVERED:
        return MessageDelivered(**shared)
    if first.next_attempt_at is not None:
        return MessageDeferred(**shared, next_attempt_at=first.next_attempt_at)
    return MessageBounced(**shared, dsn_sent=dsn_sent)


def steps_of(message: Mapping[str, Any], conclusion: Conclusion, now: datetime, notices: set[Action]) -> list[Document]:
    """Steps of the trace, with the servers' replies and what the sender is told."""
    steps = []
    for changes in _alike(conclusion):
        first = changes[0]
        addresses = [message["recipients"][change.index]["address"] for change in changes[:NAMED_RECIPIENTS]]
        more = f" and {len(changes) - len(addresses)} more" if len(changes) > len(addresses) else ""
        where = f" by {first.next_hop}" if first.next_hop else ""
        where += f" ({first.tls})" if first.tls else ""
        steps.append(step(now, first.state.value, f"{', '.join(addresses)}{more}{where}: {first.reply}"))
    for action in sorted(notices):
        what = DELAY_NOTED if action is Action.DELAYED else "notification"
        steps.append(step(now, what, f"the sender is told: {action.value}"))
    return steps


def _alike(conclusion: Conclusion) -> Iterator[list[Change]]:
    """Changes with one state, next hop and reply; past a number of them, with one state and next hop.

    So 500 recipients, tried for five days, neither fill the message's document nor flood the bus.
    """
    groups: dict[tuple[str, str, str], list[Change]] = {}
    for change in conclusion.changes:
        key = (change.state.value, change.next_hop, change.reply)
        if key not in groups and len(groups) >= TOLD_APART:
            key = (change.state.value, change.next_hop, "")
        groups.setdefault(key, []).append(change)
    yield from groups.values()
