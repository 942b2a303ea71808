"""What one transaction of applying writes, as data: decided first, written after."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.events import Event

Document = dict[str, Any]
SOONEST_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Found:
    """What a batch is decided against, all of it read in its transaction.

    `owners` maps keys to users, and to an empty text where another customer has the address. `free` is how many
    licences are left, None without limit. `due_at` is when a user who is flagged now goes; None is never. `sites` are
    those of users who come back, as far as they are still there.
    """

    customer_id: str
    provider: str
    now: datetime
    due_at: datetime | None
    free: int | None
    users: dict[str, Document]
    deleted: dict[str, Document]
    owners: dict[str, str]
    domains: dict[str, str]
    joined: dict[str, str]
    existing: set[str]
    members: set[tuple[str, str]]
    sites: set[str]


@dataclass(slots=True)
class Writes:
    """The writes, and what becomes of the items.

    `updates` maps a user's id to the fields that are set and unset; `moved` to the primary key that it has now, where
    that changes; `primaries` to the old and new one, where both stay the user's. `lost` are addresses taken from users.
    """

    users: list[Document] = field(default_factory=list)
    updates: dict[str, tuple[Document, Document]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    primaries: dict[str, tuple[str, str]] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)
    addresses: list[Document] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    members: list[Document] = field(default_factory=list)
    members_gone: dict[str, list[str]] = field(default_factory=dict)
    known: list[Document] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    states: dict[tuple[str, str | None], list[str]] = field(default_factory=dict)

    def settle(self, item: Document, state: str, error: str | None = None) -> None:
        """Note what becomes of an item."""
        self.states.setdefault((state, error), []).append(item["_id"])


def due_time(delay_days: int | None, now: datetime) -> datetime | None:
    """When a user flagged now goes (SPEC S9): never sooner than in seven days; None is never."""
    return None if delay_days is None else now + timedelta(days=max(delay_days, SOONEST_DAYS))


def in_order(moves: Mapping[str, tuple[str, str]]) -> tuple[list[str], list[str]]:
    """The order in which users, who change their primary key from the first to the second, never have one that somebody
    else still has; and those who must give theirs up before, since they hand them round in a circle.
    """
    holders = {old: user_id for user_id, (old, _) in moves.items()}
    order: dict[str, None] = {}
    parked: list[str] = []
    for user_id in moves:
        chain: dict[str, None] = {}
        one: str | None = user_id
        while one is not None and one not in order and one not in chain:
            chain[one] = None
            one = holders.get(moves[one][1])
        if one in chain:
            parked.append(user_id)
        order |= dict.fromkeys(reversed(chain))
    return list(order), parked
