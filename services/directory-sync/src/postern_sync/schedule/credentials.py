"""Warns of credentials that end soon, 30, 7 and 1 days before, once each (SPEC E3)."""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from postern_common import outbox, telemetry
from postern_common.errors import Temporary
from postern_common.events import CredentialExpiring
from postern_common.mongo import Session
from postern_sync.runs.documents import SERVICE
from postern_sync.schedule.store import DirectoryStore

Document = dict[str, Any]
DAYS: Final = (30, 7, 1)
LOOK_SECONDS: Final = 3600.0

log = structlog.get_logger(__name__)


def warned_days(expires_at: datetime | None, now: datetime) -> list[int]:
    """For which of `DAYS` the time has come."""
    if expires_at is None:
        return []
    return [days for days in DAYS if expires_at - now <= timedelta(days=days)]


class Credentials:
    """Looks at all credentials every hour, whichever process comes first."""

    def __init__(self, directories: DirectoryStore, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._directories = directories
        self._mongo = directories.mongo
        self._look_seconds = look_seconds
        self.on_commit: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except Temporary as error:
                log.warning("credentials_wait", reason=error.reason)
            await asyncio.sleep(self._look_seconds * random.uniform(0.75, 1.25))

    async def look(self) -> int:
        """Warn where the time has come; of how many directories."""
        now = await self._mongo.now()
        warned = 0
        for directory in await self._directories.ending_credentials(now + timedelta(days=DAYS[0])):
            with telemetry.bind(customer_id=directory["customer_id"]):
                warned += await self._mongo.transact(lambda session: self._warn(directory, now, session))  # noqa: B023
        if warned:
            self.on_commit()
        return warned

    async def _warn(self, directory: Document, now: datetime, session: Session) -> bool:
        settings = directory.get("entra") or {}
        expires_at = settings.get("credential_expires_at")
        due = warned_days(expires_at, now)
        # A new credential ends later: what was warned of for the old one is forgotten.
        if due == directory["warned_days"] or not await self._directories.warn(directory, due, session):
            return False
        if expires_at is None or not set(due) - set(directory["warned_days"]):
            return False
        kind = "entra-client-certificate" if settings.get("client_certificate") else "entra-client-secret"
        event = CredentialExpiring(customer_id=directory["customer_id"], credential=kind, expires_at=expires_at)
        await outbox.append(self._mongo, session, event, service=SERVICE)
        log.info("credential_expiring", days=min(due))
        return True
