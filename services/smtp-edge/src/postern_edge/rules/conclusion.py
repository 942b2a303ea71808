"""What follows from an attempt: each recipient's new state, the next attempt, who is told, and the trace (SPEC R3, R5).

Pure: the attempt's answers and the message as it was go in, the changes come out; `queue.py` writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.documents import RecipientState
from postern_edge.rules.classify import Answer, Outcome, outcome
from postern_edge.rules.retry import DELAY_NOTICE_AFTER, next_attempt
from postern_edge.rules.tls_policy import TlsUsed

OPEN_STATES: Final = frozenset({RecipientState.ACCEPTED, RecipientState.DEFERRED})
DELAY_NOTED: Final = "delay_noted"  # the trace's word for "the sender was told of the delay"


@dataclass(frozen=True, slots=True)
class Tried:
    """What one recipient (by its place in the message) got from which next hop."""

    index: int
    answer: Answer
    next_hop: str
    passes_dsn_on: bool = False  # the next hop took over the sender's wish for notifications (RFC 3461 5.2.1)
    tls: TlsUsed | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A recipient's new state."""

    index: int
    key: str
    state: RecipientState
    reply: str
    next_hop: str
    attempts: int
    next_attempt_at: datetime | None
    tls: TlsUsed | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A recipient about whom the sender is told."""

    index: int
    answer: Answer
    next_hop: str


@dataclass(slots=True)
class Conclusion:
    """All that an attempt changes."""

    changes: list[Change] = field(default_factory=list)
    due_at: datetime | None = None  # of the message; None: nothing is left to try
    failed: list[Told] = field(default_factory=list)
    delayed: list[Told] = field(default_factory=list)
    relayed: list[Told] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether no recipient is left to try."""
        return self.due_at is None


def conclude(
    message: Mapping[str, Any], tried: Sequence[Tried], *, now: datetime, first_retry: timedelta, draw: float
) -> Conclusion:
    """What an attempt changes. Recipients that were not tried keep their state and their due time."""
    result = Conclusion()
    recipients = message["recipients"]
    open_due = [
        recipient["next_attempt_at"] or now
        for index, recipient in enumerate(recipients)
        if recipient["state"] in OPEN_STATES and index not in {one.index for one in tried}
    ]
    for one in tried:
        change = _change(recipients[one.index], one, message["expires_at"], now, first_retry, draw)
        result.changes.append(change)
        if change.next_attempt_at is not None:
            open_due.append(change.next_attempt_at)
    result.due_at = min(open_due, default=None)
    if message["sender"]:
        _tell(result, message, {one.index: one for one in tried}, now)
    return result


def _change(
    recipient: Mapping[str, Any],
    one: Tried,
    expires_at: datetime,
    now: datetime,
    first_retry: timedelta,
    draw: float,
) -> Change:
    attempts = recipient["attempts"] + 1
    came = outcome(one.answer)
    due = None
    if came is Outcome.DEFERRED:
        due = next_attempt(attempts, first=first_retry, now=now, expires_at=expires_at, draw=draw)
        if due is None:
            came = Outcome.BOUNCED
    state, reply = RecipientState(came.value), str(one.answer)
    return Change(one.index, recipient["key"], state, reply, one.next_hop, attempts, due, one.tls)


def _tell(result: Conclusion, message: Mapping[str, Any], tried: Mapping[int, Tried], now: datetime) -> None:
    """RFC 3461 4.1 and 5.2: who is told of what; without NOTIFY of failures alone."""
    told_of_delay = any(step["what"] == DELAY_NOTED for step in message["steps"])
    late = now - message["received_at"] >= DELAY_NOTICE_AFTER
    for change in result.changes:
        notify = message["recipients"][change.index]["notify"]
        one = tried[change.index]
        told = Told(change.index, one.answer, change.next_hop)
        if change.state is RecipientState.BOUNCED and (not notify or "FAILURE" in notify):
            result.failed.append(told)
        elif change.state is RecipientState.DEFERRED and "DELAY" in notify and late and not told_of_delay:
            result.delayed.append(told)
        elif change.state is RecipientState.DELIVERED and "SUCCESS" in notify and not one.passes_dsn_on:
            result.relayed.append(told)
