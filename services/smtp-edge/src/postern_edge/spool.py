"""The spool: where messages become durable before 250 is said (SPEC R4, DESIGN 6 and 7).

Messages that arrive within a few milliseconds share one insert, small bodies within it. Larger bodies are inserted
before, so that a message without its body never exists. Each insert waits for a majority and its journal. While the
primary changes or restarts, the same insert is repeated: documents that are there already count as stored. What cannot
be stored in time is refused for now, and whatever of it may have been stored is taken away again (`withdrawal.py`).
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from prometheus_client import Counter
from pymongo.errors import BulkWriteError, PyMongoError

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.mongo import PLATFORM, Document, Mongo
from postern_common.mongo_errors import is_unavailable
from postern_edge.bodies.store import BodyStore, Upload, stored_documents
from postern_edge.commit import GroupCommit
from postern_edge.interfaces import AcceptedMessage, SpooledIds
from postern_edge.messages import Entry, Terms, split
from postern_edge.withdrawal import Withdrawal

COMMIT_SECONDS: Final = 40.0  # how long an insert is repeated while the database is away; clients wait minutes for 250
DUPLICATE_KEY: Final = 11000

log = structlog.get_logger(__name__)
_STORED: Final = Counter("postern_edge_spool_messages_total", "Messages stored.")
_REFUSED: Final = Counter("postern_edge_spool_refused_total", "Messages that could not be stored in time.")


class MongoSpool:
    """Stores accepted messages in groups.

    `terms` tells, among others, who delivers a new message first; `accepted` takes over each stored message, at once
    and without blocking.
    """

    def __init__(
        self,
        mongo: Mongo,
        bodies: BodyStore,
        *,
        terms: Callable[[], Terms],
        accepted: Callable[[Entry], None],
        writers: int = 2,
        max_messages: int = 100,
        max_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._mongo = mongo
        self._bodies = bodies
        self._terms = terms
        self._accepted = accepted
        self._withdrawal = Withdrawal(self._remove)
        self._is_away = False
        self.commit: GroupCommit[list[Entry]] = GroupCommit(
            "messages", self._write, cost=_weight, writers=writers, max_items=max_messages, max_cost=max_bytes
        )

    async def accept(self, message: AcceptedMessage) -> SpooledIds:
        """Store a message, one document for each customer; return when it would survive the death of any process."""
        entries = split(message, self._terms())
        try:
            if message.stored_body is not None:
                for entry in entries:
                    await self._bodies.keep(message.stored_body, entry.message_id, entry.document["customer_id"])
            await self.commit.add(entries)
        except Exception as error:
            _REFUSED.inc()
            self._withdrawal.add(entries)
            if isinstance(error, PyMongoError):
                raise Temporary(f"spool: {type(error).__name__}") from error
            raise
        _STORED.inc(len(entries))
        for entry in entries:
            self._accepted(entry)
        return SpooledIds(tuple(entry.message_id for entry in entries))

    def open_body(self, _queue_id: str) -> Upload:
        """Begin to store a body while it is read."""
        return self._bodies.upload()

    async def _write(self, batch: list[list[Entry]]) -> None:
        bodies, messages = stored_documents(entry for item in batch for entry in item)
        # Once it was waited for in vain, who comes next is told after one attempt: the line behind may be long.
        deadline = asyncio.get_running_loop().time() + (0.0 if self._is_away else COMMIT_SECONDS)
        try:
            if bodies:
                await self._insert(Collections.BODIES, bodies, deadline)
            await self._insert(Collections.MESSAGES, messages, deadline)
        except Temporary:
            self._is_away = True
            raise
        self._is_away = False

    async def _insert(self, name: Collections, documents: list[Document], deadline: float) -> None:
        pause = 0.05
        while True:
            try:
                await self._mongo.direct(name).insert_many(documents, ordered=False)
                return
            except BulkWriteError as error:
                if _only_duplicates(error):
                    return  # stored by the insert whose answer was lost
                if not _passes(error):
                    raise
            except PyMongoError as error:
                if not is_unavailable(error):
                    raise
                log.warning("commit_repeated", what=name.value, error=type(error).__name__)
            if asyncio.get_running_loop().time() > deadline:
                raise Temporary("the database is away")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 2.0)

    async def drain(self) -> None:
        """Return when nothing is left to take away."""
        await self._withdrawal.drain()

    async def _remove(self, entries: Sequence[Entry]) -> None:
        """Take away what may have been stored of messages that were refused.

        One whose lease has lapsed may be under way by now; it stays, with its body.
        """
        messages = self._mongo.collection(Collections.MESSAGES, PLATFORM)
        message_ids = [entry.message_id for entry in entries]
        untouched = [
            {"_id": entry.message_id, "version": 1, "lease_until": entry.document["lease_until"]} for entry in entries
        ]
        await messages.delete_many({"$or": untouched})
        left = await messages.find({"_id": {"$in": message_ids}}, limit=len(message_ids), projection={"_id": 1})
        kept = {document["_id"] for document in left}
        await self._bodies.remove([message_id for message_id in message_ids if message_id not in kept])


def _weight(entries: list[Entry]) -> int:
    return sum(len(entry.body or b"") + 2048 for entry in entries)


def _only_duplicates(error: BulkWriteError) -> bool:
    details = error.details or {}
    errors = details.get("writeErrors", [])
    return (
        bool(errors)
        and all(item.get("code") == DUPLICATE_KEY for item in errors)
        and not details.get("writeConcernErrors")
    )


def _passes(error: BulkWriteError) -> bool:
    """Whether repeating may help: the write concern was not reached, or the primary changed in the middle."""
    details = error.details or {}
    errors = [item for item in details.get("writeErrors", []) if item.get("code") != DUPLICATE_KEY]
    return not errors
