"""Removes what removed customers leave behind, a batch at a time (SPEC T9).

The API removes a customer with what lets anybody in, and leaves a note in the same transaction. Whoever takes the note
removes the rest, and whoever comes after a crash goes on with it. Things under way when the customer went, such as a
run that is reading, may still write for a while: so the note is taken again each hour, for a day and until nothing was
found.
"""

from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import Counter

from postern_common import telemetry
from postern_common.deletions import RemovedCustomerDocument
from postern_common.mongo import Mongo
from postern_common.polling import poll
from postern_deletion.removal.store import GOING, RemovalStore

BATCH: Final = 1000
LEASE: Final = timedelta(minutes=5)
AGAIN: Final = timedelta(hours=1)
WATCHED: Final = timedelta(days=1)
POLL_SECONDS: Final = 10.0
MAX_PAUSE_SECONDS: Final = 300.0

log = structlog.get_logger(__name__)
_REMOVED = Counter(
    "postern_deletion_leavings_total", "Documents of removed customers that were removed.", ["collection"]
)


class Removal:
    """The loop of one process."""

    def __init__(self, mongo: Mongo, *, poll_seconds: float = POLL_SECONDS, batch: int = BATCH) -> None:
        self._store = RemovalStore(mongo)
        self._mongo = mongo
        self._poll_seconds = poll_seconds
        self._batch = batch

    async def run(self) -> None:
        """Work until cancelled; back off while the database is away or the clocks differ."""
        await poll(self.look, every=self._poll_seconds, longest=MAX_PAUSE_SECONDS, waits="removal_waits")

    async def look(self) -> int:
        """Clear up after all customers whose time has come; how many documents went."""
        removed = 0
        while (note := await self._store.claim(await self._mongo.now(), LEASE)) is not None:
            with telemetry.bind(customer_id=note["_id"]):
                removed += await self._clear(note)
        return removed

    async def _clear(self, note: RemovedCustomerDocument) -> int:
        customer_id = note["_id"]
        if await self._store.exists(customer_id):  # a database put back from parts of different ages
            log.error("removed_customer_exists")
            await self._store.forget(customer_id)
            return 0
        removed = 0
        for name in GOING:
            found = self._batch
            while found == self._batch:
                found = await self._store.remove_some(name, customer_id, self._batch)
                removed += found
                _REMOVED.labels(collection=name.value).inc(found)
                if found == self._batch:
                    await self._store.look_again(customer_id, await self._mongo.now() + LEASE)
        now = await self._mongo.now()
        if removed or now < note["removed_at"] + WATCHED:
            await self._store.look_again(customer_id, now + AGAIN)
        else:
            await self._store.forget(customer_id)
        if removed:
            log.info("customer_cleared", documents=removed)
        return removed
