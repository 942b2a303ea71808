"""Records of `Idempotency-Key`s: who sent which request, and the sealed answer that a repetition gets."""

from datetime import datetime
from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, DuplicateKey, Mongo, Session
from postern_common.secrets import SecretBox, SecretsError

Document = dict[str, Any]


class IdempotencyStore:
    """The records; MongoDB removes them when they expire."""

    def __init__(self, mongo: Mongo) -> None:
        self._records = mongo.collection(Collections.IDEMPOTENCY, PLATFORM)

    async def begin(self, record: Document) -> bool:
        """Keep the record of a request that starts now; False if there is one already."""
        try:
            await self._records.insert_one(record)
        except DuplicateKey:
            return False
        return True

    async def get(self, key: str) -> Document | None:
        """The record of a key."""
        return await self._records.find_one({"_id": key})

    async def take_over(self, found: Document, record: Document) -> bool:
        """Begin again where a record has expired or its process has died; False if somebody else was faster."""
        query = {"_id": found["_id"], "claim": found["claim"], "is_made": found["is_made"]}
        changes = {key: value for key, value in record.items() if key != "_id"}
        return bool(await self._records.update_one(query, {"$set": changes}))

    async def mark(self, key: str, claim: str, session: Session) -> bool:
        """Tell that the change is made, in its own transaction; False if the claim is no longer this one."""
        change = {"$set": {"is_made": True}}
        return bool(await self._records.update_one({"_id": key, "claim": claim}, change, session=session))

    async def is_made(self, key: str, claim: str) -> bool:
        """Whether the request's change is made."""
        return await self._records.find_one({"_id": key, "claim": claim, "is_made": True}) is not None

    async def finish(self, key: str, claim: str, answer: str, expires_at: datetime) -> None:
        """Keep the answer for repetitions."""
        change = {"$set": {"answer": answer, "expires_at": expires_at}}
        await self._records.update_one({"_id": key, "claim": claim}, change)

    async def drop(self, key: str, claim: str, now: datetime) -> None:
        """Forget a request that changed nothing; of one that did, only say that it runs no longer."""
        mine = {"_id": key, "claim": claim}
        if not await self._records.delete_one({**mine, "is_made": False}):
            await self._records.update_one(mine, {"$set": {"lease_until": now}})

    async def reseal(self, secrets: SecretBox) -> int:
        """Seal kept answers under the current key; how many moved. One that does not open is forgotten."""
        moved = 0
        async for record in self._records.stream({"answer": {"$ne": None}}):
            try:
                sealed = secrets.reseal(record["answer"], record["_id"])
            except SecretsError:
                await self._records.delete_one({"_id": record["_id"]})
                continue
            if sealed is not None:
                query = {"_id": record["_id"], "answer": record["answer"]}
                moved += await self._records.update_one(query, {"$set": {"answer": sealed}})
        return moved
