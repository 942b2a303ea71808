"""Does reviews and applications, in any process of the API: whoever takes the lease of an import goes on with it.

A process that ends gives its lease up; one that dies leaves it to lapse. A failure that may pass is tried again after a
pause, some times; a file that cannot be read ends the import with the reason.
"""

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Final

import structlog

from postern_api.customers.store import CustomerStore
from postern_api.imports.applying import Application
from postern_api.imports.lease import Lease
from postern_api.imports.reviewing import Review
from postern_api.imports.store import ImportStore, LeaseLost, LeaseStore, PeopleStore
from postern_api.resources import Resources
from postern_common.errors import Rejected, Temporary
from postern_common.ids import new_id
from postern_common.import_documents import ImportState
from postern_common.mongo import TenantScope
from postern_common.polling import poll

LOOK_SECONDS: Final = 1.0
MAX_ATTEMPTS: Final = 8
PAUSE: Final = timedelta(seconds=2)
GAVE_UP: Final = f"It failed or broke off {MAX_ATTEMPTS} times. Try it once more later, or with fewer rows."
Document = dict[str, Any]

log = structlog.get_logger(__name__)


class ImportWorker:
    """Takes one import after the other."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._leases = LeaseStore(resources.mongo)
        self._owner = new_id("imp")

    async def run(self) -> None:
        """Work until cancelled; look less often while the database is away."""

        async def look() -> None:
            while await self.work_once():
                pass

        await poll(look, every=LOOK_SECONDS, longest=30.0, waits="imports_wait")

    async def work_once(self) -> bool:
        """Take an import that waits, and go on with it; False where none does."""
        document = await self._leases.claim(self._owner)
        if document is None:
            return False
        pause, attempts = timedelta(), document["attempts"] - 1
        try:
            await Lease(self._leases, document["_id"], self._owner).during(self._work(document))
        except LeaseLost:
            log.info("import_lease_lost", import_id=document["_id"])
        except Exception as error:
            pause = PAUSE * 2 ** min(attempts, 6) * random.uniform(0.75, 1.25)
            attempts += 1
            exc_info = None if isinstance(error, Temporary) else error
            log.warning("import_interrupted", import_id=document["_id"], error=type(error).__name__, exc_info=exc_info)
        finally:
            with contextlib.suppress(Temporary):
                await asyncio.shield(self._leases.release(document["_id"], self._owner, pause=pause, attempts=attempts))
        return True

    async def _work(self, document: Document) -> None:
        scope = TenantScope(document["customer_id"])
        store, people = ImportStore(self._resources.mongo, scope), PeopleStore(self._resources.mongo, scope)
        customer = await CustomerStore(self._resources.mongo).get(document["customer_id"])
        if document["attempts"] > MAX_ATTEMPTS or customer is None:
            await self._fail(document, store, GAVE_UP)
            return
        try:
            if document["state"] == ImportState.REVIEWING:
                review = Review(self._resources, document, customer, self._owner, store, people)
                await _in_time(review.run(), self._resources.settings.api_import_review_seconds)
            else:
                await Application(self._resources, document, self._owner, store, people).run()
        except Rejected as error:
            await self._fail(document, store, error.message)

    async def _fail(self, document: Document, store: ImportStore, reason: str) -> None:
        now = self._resources.now()
        changes = {
            "state": ImportState.FAILED.value,
            "reason": reason,
            "is_open": False,
            "lease_owner": None,
            "finished_at": now,
            "updated_at": now,
        }
        await store.advance(document["_id"], self._owner, changes)
        if document["state"] == ImportState.REVIEWING:
            await store.delete_parts(document["_id"])


async def _in_time(work: Coroutine[Any, Any, None], seconds: float) -> None:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            await work
    except TimeoutError:
        if not limit.expired():
            raise
        message = f"Reading took longer than {round(seconds)} seconds. Split the file."
        raise Rejected("unreadable-file", message) from None
