"""A worker's hold on an import: renewed beside the work, whatever the work is waiting for, and the work's end where it
is lost.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from postern_api.imports.store import LEASE, LeaseLost, LeaseStore
from postern_common.errors import Temporary

BEAT_SECONDS: Final = LEASE.total_seconds() / 6

log = structlog.get_logger(__name__)


class Lease:
    """One import in the hands of the worker `owner`, who has just claimed it."""

    def __init__(self, store: LeaseStore, import_id: str, owner: str) -> None:
        self._store = store
        self._import_id = import_id
        self._owner = owner

    async def during(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while the lease is kept; raises `LeaseLost`, with the work ended, where it cannot be."""
        working = asyncio.create_task(work)
        keeping = asyncio.create_task(self._keep())
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            # Where both ended, what the work says counts: it may have lost the lease by ending the import.
            await (working if working.done() else keeping)
        finally:
            for task in (working, keeping):
                task.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)

    async def _keep(self) -> None:
        """Renew the lease until it is lost, or could not be renewed for as long as it lasts."""
        loop = asyncio.get_running_loop()
        held_until = loop.time() + LEASE.total_seconds()
        while loop.time() < held_until:
            await asyncio.sleep(BEAT_SECONDS)
            began = loop.time()
            try:
                if not await self._store.renew(self._import_id, self._owner):
                    break
                held_until = began + LEASE.total_seconds()
            except Temporary as error:
                log.warning("import_lease_not_renewed", import_id=self._import_id, reason=error.reason)
        raise LeaseLost(self._import_id)
