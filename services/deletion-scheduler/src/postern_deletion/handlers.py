"""Events that the scheduler consumes: a user was flagged.

The due time stands in the user's document, which alone decides; so an event that comes twice, late, or after the user
was unflagged changes nothing: it is counted, and the next sweep comes at once.
"""

from collections.abc import Callable

from prometheus_client import Counter

from postern_common.bus import Handler
from postern_common.envelope import Envelope
from postern_common.events import Event, UserFlaggedForDeletion
from postern_common.mongo import Session

_FLAGGED = Counter(
    "postern_deletion_users_flagged_total", "Users flagged, or whose due time moved.", ["due"]
)  # due: date | never


class Handlers:
    """Idempotent because nothing is stored here."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def table(self) -> dict[type[Event], Handler]:
        """Which handler takes which event."""
        return {UserFlaggedForDeletion: self.user_flagged}

    async def user_flagged(self, envelope: Envelope, session: Session) -> None:
        """Count it, and sweep soon: an administrator may have chosen a due time that is near."""
        event = envelope.event()
        assert isinstance(event, UserFlaggedForDeletion)  # noqa: S101 - the bus hands over what the table names
        _FLAGGED.labels(due="never" if event.due_at is None else "date").inc()
        self._wake()
