"""Turns addresses that customers' own servers took mail for into users (SPEC U5).

The edge notes them; each note is worked on in one transaction that removes it, so any number of processes may run and
none makes a user twice. Where no licence is left, the address becomes known, so that mail for it is taken under
`known_only` too, until it has a user. What else cannot become one (taken meanwhile, left out of the directory's users
by a conflict or a licence, which the next run settles, discovery switched off) is forgotten. The next message shows the
address again.
"""

from collections.abc import Callable
from typing import Any, Final

import structlog
from prometheus_client import Counter

from postern_common import outbox, telemetry
from postern_common.events import UserAdded
from postern_common.ids import new_id
from postern_common.mongo import DuplicateKey, Mongo, Session
from postern_common.polling import poll
from postern_sync.discovery.store import SOURCE, DiscoveryStore
from postern_sync.rules.entries import Mailbox
from postern_sync.runs.documents import SERVICE

Document = dict[str, Any]
BATCH: Final = 100
POLL_SECONDS: Final = 2.0
MAX_PAUSE_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)
_DISCOVERED = Counter(
    "postern_sync_discoveries_total", "Discovered addresses by what became of them.", ["outcome"]
)  # outcome: added | unwanted | unverified | taken | directory | licence | invalid | lost


class Discovery:
    """The loop of one process."""

    def __init__(self, mongo: Mongo, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._store = DiscoveryStore(mongo)
        self._mongo = mongo
        self._poll_seconds = poll_seconds
        self.on_commit: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Work until cancelled; back off while the database is away."""

        async def look() -> None:
            while await self.look() == BATCH:
                pass

        await poll(look, every=self._poll_seconds, longest=MAX_PAUSE_SECONDS, waits="discovery_waits")

    async def look(self) -> int:
        """Work on the notes that wait; how many there were."""
        notes = await self._store.waiting(BATCH)
        for note in notes:
            with telemetry.bind(customer_id=note["customer_id"]):
                outcome = await self._settled(note)
                _DISCOVERED.labels(outcome=outcome).inc()
                if outcome == "added":
                    log.info("user_discovered")
                    self.on_commit()
        return len(notes)

    async def _settled(self, note: Document) -> str:
        try:
            return await self._mongo.transact(lambda session: self._settle(note, session))
        except DuplicateKey:  # another customer, or another process, was a moment faster
            return await self._mongo.transact(lambda session: self._forget(note, "taken", session))

    async def _forget(self, note: Document, outcome: str, session: Session) -> str:
        return outcome if await self._store.remove(note, session) else "lost"

    async def _settle(self, note: Document, session: Session) -> str:
        if not await self._store.remove(note, session):
            return "lost"
        customer_id, mailbox = note["customer_id"], Mailbox.parse(note["address"])
        if mailbox is None:
            return "invalid"
        customer = await self._store.wants(customer_id, session)
        if customer is None:
            return "unwanted"
        if not await self._store.is_verified(customer_id, mailbox.domain, session):
            return "unverified"
        if await self._store.is_taken(customer_id, mailbox.key, session):
            return "taken"
        if await self._store.is_in_directory(customer_id, mailbox.key, session):
            return "directory"
        allowed = customer["allowed_users"]
        if allowed is not None and await self._store.licences_in_use(customer_id, session) >= allowed:
            await self._store.know(customer_id, mailbox, session)
            return "licence"
        user_id = new_id("usr")
        await self._store.add(customer_id, user_id, mailbox, await self._mongo.server_time(), session)
        event = UserAdded(customer_id=customer_id, user_id=user_id, source=SOURCE)
        await outbox.append(self._mongo, session, event, service=SERVICE)
        return "added"
