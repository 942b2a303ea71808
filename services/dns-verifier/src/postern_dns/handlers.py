"""Events that the verifier consumes: a domain was added, or its verification was started again."""

from collections.abc import Callable
from typing import Final

from postern_common.bus import Handler
from postern_common.envelope import Envelope
from postern_common.events import DomainAdded, Event
from postern_common.mongo import Session
from postern_dns.store import DomainStore

SERVICE: Final = "dns-verifier"


class Handlers:
    """Idempotent by state: a domain that was looked at since, restarted, decided or removed is left alone."""

    def __init__(self, store: DomainStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake

    def table(self) -> dict[type[Event], Handler]:
        """Which handler takes which event."""
        return {DomainAdded: self.domain_added}

    async def domain_added(self, envelope: Envelope, session: Session) -> None:
        """Make the domain due at once. Without this event it would be found by its due time all the same."""
        event = envelope.event()
        assert isinstance(event, DomainAdded)  # noqa: S101 - the bus hands over what the table names
        now = await self._store.mongo.now()
        await self._store.make_due(event.domain_id, event.customer_id, event.deadline, envelope.time, now, session)
        self._wake()
