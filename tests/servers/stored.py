"""Documents as the services store them, for tests that begin in the middle of a story."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from postern_common.addresses import address_key
from postern_common.clock import Clock
from postern_common.documents import Collections, DomainState, UserState
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM, Mongo
from postern_common.settings import CommonSettings

WAIT = timedelta(hours=72)


def connect(uri: str, database: str, clock: Clock | None = None) -> Mongo:
    """A client of a test's database."""
    settings = CommonSettings.model_construct(mongodb_uri=SecretStr(uri), mongodb_database=database)
    return Mongo.connect(settings, clock or Clock())


class Stored:
    """Puts documents into a test's database and reads them back."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo

    async def put(self, name: Collections, document: dict[str, Any]) -> dict[str, Any]:
        """Insert and return the document."""
        await self.mongo.collection(name, PLATFORM).insert_one(document)
        return document

    async def get(self, name: Collections, key: str) -> dict[str, Any]:
        """The document, which must be there."""
        found = await self.mongo.collection(name, PLATFORM).find_one({"_id": key})
        assert found is not None, f"no {name} {key}"
        return found

    async def all(self, name: Collections, /, **query: Any) -> list[dict[str, Any]]:
        """All that match."""
        return await self.mongo.collection(name, PLATFORM).find(query, limit=10_000)

    async def set(self, name: Collections, key: str, /, **fields: Any) -> None:
        """Change fields of one document."""
        assert await self.mongo.collection(name, PLATFORM).update_one({"_id": key}, {"$set": fields})

    async def events(self, *names: str) -> list[tuple[str, str]]:
        """Name and subject of the events in the outbox, oldest first; of the given names, or all."""
        found = await self.all(Collections.OUTBOX)
        ordered = sorted(found, key=lambda entry: entry["_id"])
        told = [(entry["name"], entry["envelope"]["subject"]) for entry in ordered]
        return [event for event in told if not names or event[0] in names]

    async def customer(self, **fields: Any) -> dict[str, Any]:
        """A customer."""
        now = self.mongo.clock.now()
        document = {
            "_id": new_id("cus"),
            "name": "A customer",
            "partner_id": None,
            "allowed_users": None,
            "state": "active",
            "recipient_mode": "accept_all",
            "plus_addressing": True,
            "deletion_delay_days": 7,
            "max_message_bytes": 52_428_800,
            "retention": {"trace_days": 30, "quarantine_days": 30, "audit_days": 365, "deleted_users_days": 90},
            "sync_interval_seconds": None,
            "last_good_sync_at": None,
            "created_at": now,
            "updated_at": now,
            "version": 1,
        }
        return await self.put(Collections.CUSTOMERS, document | fields)

    async def domain(self, name: str, *, customer_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """A pending domain, due at once."""
        now = (await self.mongo.server_time()).astimezone(UTC)
        document: dict[str, Any] = {
            "_id": new_id("dom"),
            "customer_id": customer_id or new_id("cus"),
            "name": name,
            "unicode_name": name,
            "state": DomainState.PENDING.value,
            "detail": None,
            "code": new_id("run")[4:30],
            "site_id": None,
            "pending_since": now,
            "deadline": now + WAIT,
            "next_check_at": now,
            "requested_at": None,
            "check_attempts": 0,
            "lease_owner": None,
            "lease_until": None,
            "last_check": None,
            "expiry_warned_at": None,
            "verified_at": None,
            "mx": None,
            "spf": None,
            "mail_dns_next_at": None,
            "created_at": now,
            "updated_at": now,
            "version": 1,
        }
        return await self.put(Collections.DOMAINS, document | fields)

    async def user(
        self, email: str, *, customer_id: str, aliases: tuple[str, ...] = (), verified: bool = False, **fields: Any
    ) -> dict[str, Any]:
        """A user with an address for the primary and each alias."""
        now: datetime = self.mongo.clock.now()
        keys = [address_key(*address.rsplit("@", 1)) for address in (email, *aliases)]
        document: dict[str, Any] = {
            "_id": new_id("usr"),
            "customer_id": customer_id,
            "email": email,
            "email_key": keys[0],
            "aliases": [
                {"address": address, "key": key, "source": "manual"}
                for address, key in zip(aliases, keys[1:], strict=True)
            ],
            "kind": "user",
            "source": "manual",
            "first_name": "Ann",
            "last_name": "Lee",
            "home_phone": "",
            "mobile": "",
            "company": "",
            "department": "",
            "notes": "",
            "site_id": None,
            "settings": {},
            "state": UserState.ACTIVE.value,
            "flagged_at": None,
            "due_at": None,
            "flag_reason": None,
            "external_id": None,
            "external_id_kind": None,
            "immutable_id": None,
            "directory_state": None,
            "created_at": now,
            "updated_at": now,
            "version": 1,
        }
        user = await self.put(Collections.USERS, document | fields)
        for key in keys:
            address = {
                "customer_id": customer_id,
                "key": key,
                "domain": key.rsplit("@", 1)[1],
                "user_id": user["_id"],
                "is_primary": key == keys[0],
                "verified": verified,
            }
            await self.put(Collections.ADDRESSES, address)
        return user


@pytest.fixture
async def stored(mongo_uri: str, database: str, tmp_path: Path) -> AsyncIterator[Stored]:
    """An empty database whose clock `move` moves."""
    mongo = connect(mongo_uri, database, Clock(tmp_path / "clock"))
    await mongo.ensure_indexes()
    yield Stored(mongo)
    mongo.close()


@pytest.fixture
def move(tmp_path: Path) -> Callable[[timedelta], None]:
    """Set how far the clock of `stored` is ahead."""

    def to(offset: timedelta) -> None:
        (tmp_path / "clock").write_text(str(offset.total_seconds()))

    return to
