"""What is stored of one customer, read in batches for a run's scratch file; nothing is written here."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, Mongo, Scoped, TenantScope
from postern_sync.rules.entries import FIELDS

Document = dict[str, Any]
BATCH: Final = 1000
_USER: Final = (
    "version", "source", "state", "flag_reason", "kind", "external_id", "immutable_id", "directory_state",
    "absent_runs", "email", "email_key", "aliases", *FIELDS,
)  # fmt: skip


class PeopleStore:
    """One customer's users, groups and addresses, with the customer and its directory."""

    def __init__(self, mongo: Mongo, customer_id: str) -> None:
        self._mongo = mongo
        self._scope = TenantScope(customer_id)
        self._customer_id = customer_id

    def _of(self, name: Collections) -> Scoped:
        return self._mongo.collection(name, self._scope)

    async def customer(self) -> Document | None:
        """The customer."""
        return await self._of(Collections.CUSTOMERS).find_one({})

    async def directory(self) -> Document | None:
        """The settings of the customer's directory."""
        return await self._of(Collections.DIRECTORIES).find_one({})

    async def domains(self) -> dict[str, str]:
        """The customer's domains with their states."""
        found = self._of(Collections.DOMAINS).stream({}, projection={"name": 1, "state": 1})
        return {domain["name"]: domain["state"] async for domain in found}

    async def exceptions(self) -> list[Document]:
        """What the synchronisation leaves out."""
        return [found async for found in self._of(Collections.DIRECTORY_EXCEPTIONS).stream({})]

    async def additions(self) -> list[Document]:
        """Addresses that were added by hand."""
        return [found async for found in self._of(Collections.DIRECTORY_ADDITIONS).stream({})]

    def users(self) -> AsyncIterator[list[Document]]:
        """All users."""
        return self._batches(Collections.USERS, {}, dict.fromkeys(_USER, 1))

    def members(self) -> AsyncIterator[list[Document]]:
        """All memberships."""
        return self._batches(Collections.MEMBERSHIPS, {}, {"_id": 0, "group_id": 1, "member_id": 1, "source": 1})

    def deleted(self, now: datetime) -> AsyncIterator[list[Document]]:
        """Deleted users who can still be restored."""
        wanted = {"email_key": 1, "immutable_id": 1, "user.external_id": 1, "user.kind": 1}
        return self._batches(Collections.DELETED_USERS, {"purge_at": {"$gt": now}}, wanted)

    def known(self) -> AsyncIterator[list[Document]]:
        """Addresses that are known without a user."""
        return self._batches(Collections.KNOWN_ADDRESSES, {}, {"_id": 0, "key": 1, "reason": 1})

    async def _batches(self, name: Collections, query: Document, projection: Document) -> AsyncIterator[list[Document]]:
        batch: list[Document] = []
        async for document in self._of(name).stream(query, projection=projection, batch_size=BATCH):
            batch.append(document)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    async def taken_elsewhere(self, keys: Sequence[str]) -> list[str]:
        """Which of the addresses another customer has in a verified domain; nothing else is told of them."""
        addresses = self._mongo.collection(Collections.ADDRESSES, PLATFORM)
        query = {"key": {"$in": list(keys)}, "verified": True}
        found = await addresses.find(query, limit=len(keys), projection={"_id": 0, "key": 1, "customer_id": 1})
        return [address["key"] for address in found if address["customer_id"] != self._customer_id]
