"""The queue of all customers, counted by customer and next hop (SPEC R5)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from postern_api.auth.roles import Role
from postern_api.http.problems import forbidden
from postern_api.messages.schemas import QueueQuery, QueueRow, QueueSummary
from postern_api.messages.store import QueueStore
from postern_api.tenancy import Caller

Document = dict[str, Any]
Key = tuple[str, str | None, Literal["queued", "held"]]
MAX_COUNTED: Final = 100_000
MAX_ROWS: Final = 1000


@dataclass(slots=True)
class _Group:
    messages: int = 0
    recipients: int = 0
    oldest: datetime | None = None
    due: datetime | None = None

    def add(self, message: Document, recipients: int) -> None:
        self.messages += 1
        self.recipients += recipients
        self.oldest = min(self.oldest or message["received_at"], message["received_at"])
        self.due = min(self.due or message["due_at"], message["due_at"])


@dataclass(slots=True)
class _Counted:
    groups: dict[Key, _Group] = field(default_factory=dict)
    messages: int = 0


async def summarise(caller: Caller, query: QueueQuery) -> QueueSummary:
    """For the platform's administrators: it shows all customers."""
    if caller.principal.role is not Role.PLATFORM_ADMIN:
        raise forbidden()
    counted = _Counted()
    store = QueueStore(caller.resources.mongo)
    states: tuple[Literal["queued", "held"], ...] = ("held", "queued")
    for state in states:
        async for message in store.waiting(state):
            if counted.messages >= MAX_COUNTED:
                return _summary(counted, truncated=True)
            counted.messages += 1
            _count(counted, message, state, query)
    return _summary(counted, truncated=False)


def _count(counted: _Counted, message: Document, state: Literal["queued", "held"], query: QueueQuery) -> None:
    customer_id = message["customer_id"]
    if query.customer_id is not None and customer_id != query.customer_id:
        return
    for next_hop, recipients in _open_by_hop(message):
        if query.next_hop is None or next_hop == query.next_hop:
            counted.groups.setdefault((customer_id, next_hop, state), _Group()).add(message, recipients)


def _open_by_hop(message: Document) -> Iterator[tuple[str | None, int]]:
    left = (one["next_hop"] or None for one in message["recipients"] if one["state"] in {"accepted", "deferred"})
    yield from Counter(left).items()


def _summary(counted: _Counted, *, truncated: bool) -> QueueSummary:
    most_first = sorted(counted.groups.items(), key=lambda item: (-item[1].messages, item[0][0], item[0][1] or ""))
    items = [
        QueueRow(
            customer_id=customer_id, next_hop=next_hop, queue=state, messages=group.messages,
            recipients=group.recipients, oldest_received_at=group.oldest, next_due_at=group.due,
        )
        for (customer_id, next_hop, state), group in most_first[:MAX_ROWS]
        if group.oldest is not None
    ]  # fmt: skip
    return QueueSummary(items=items, truncated=truncated or len(most_first) > MAX_ROWS)
