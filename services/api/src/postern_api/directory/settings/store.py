"""Stored settings of one customer's directory."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import structlog

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, Mongo, Session, TenantScope
from postern_common.secrets import SecretBox, SecretsError

Document = dict[str, Any]
SECRETS: Final = {"ldap": ("password",), "entra": ("client_secret", "client_certificate")}

log = structlog.get_logger(__name__)


def place_of(customer_id: str) -> str:
    """Where a customer's directory stands: what its sealed secrets are bound to, with the name of each."""
    return f"directories/{customer_id}"


class DirectoryStore:
    """The customer's directory, of which there is one at most."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._directories = mongo.collection(Collections.DIRECTORIES, scope)
        self._customers = mongo.collection(Collections.CUSTOMERS, scope)
        self._users = mongo.collection(Collections.USERS, scope)

    async def get(self, session: Session | None = None) -> Document | None:
        """The settings, if there are any."""
        return await self._directories.find_one({}, session=session)

    async def insert(self, document: Document, session: Session) -> None:
        """Keep the first settings; raises `DuplicateKey` where there are some."""
        await self._directories.insert_one(document, session=session)

    async def change(self, present: Document, changes: Mapping[str, Any], session: Session) -> Document | None:
        """Change what was read; None if it has changed. So have secrets that were sealed anew meanwhile, though the
        version is the same: they would be put back under a key that may be gone.
        """
        query = {f"{part}.{name}": sealed for part, name, sealed in _sealed(present)}
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        return await self._directories.find_one_and_update(
            {"version": present["version"], **query}, update, session=session
        )

    async def note_rules(self, at: datetime, session: Session) -> None:
        """Note that an exception or an addition was changed: what runs found before is another answer (ADR 0009)."""
        await self._directories.update_one({}, {"$set": {"rules_changed_at": at}}, session=session)

    async def set_interval(self, seconds: int | None, session: Session) -> None:
        """Tell the customer how often its users are synchronised: by that the edge knows when they are out of date."""
        await self._customers.update_one({}, {"$set": {"sync_interval_seconds": seconds}}, session=session)

    async def count_from(self, source: str) -> int:
        """How many users came from a directory."""
        return await self._users.count({"source": source})


async def reseal(mongo: Mongo, box: SecretBox) -> int:
    """Seal the secrets of all directories under the current key; how many moved. One that does not open is told of."""
    directories = mongo.collection(Collections.DIRECTORIES, PLATFORM)
    moved = 0
    async for directory in directories.stream({}):
        for part, name, sealed in _sealed(directory):
            try:
                again = box.reseal(sealed, f"{place_of(directory['customer_id'])}/{part}.{name}")
            except SecretsError:
                log.warning("directory_secret_unreadable", customer_id=directory["customer_id"], secret=name)
                continue
            if again is not None:
                query = {"_id": directory["_id"], f"{part}.{name}": sealed}
                moved += await directories.update_one(query, {"$set": {f"{part}.{name}": again}})
    return moved


def _sealed(directory: Document) -> list[tuple[str, str, str]]:
    found = [(part, name, (directory[part] or {}).get(name)) for part, names in SECRETS.items() for name in names]
    return [(part, name, sealed) for part, name, sealed in found if sealed is not None]
