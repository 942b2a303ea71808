"""Bodies of messages in MongoDB: small ones in the message's own document, others in `bodies`, large ones in GridFS
(DESIGN 6, docs/decisions/0002-message-spool.md).

A body that lies apart stands under its message's id. Every such body, large ones too, has a document in `bodies`; of a
large one it is written before the first chunk, so that the sweeper, which looks for bodies without a message, finds
whatever a dead process left behind. Another store (an object store, say) takes this one's place by having the same
methods.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from bson.int64 import Int64
from gridfs.errors import NoFile
from motor.motor_asyncio import AsyncIOMotorGridFSBucket
from prometheus_client import Counter
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM, Document, Mongo
from postern_edge.interfaces import StoredBody
from postern_edge.messages import Entry

INLINE_BYTES: Final = 1024 * 1024  # DESIGN 6; a document holds 16 MiB at most
CHUNK_BYTES: Final = 255 * 1024  # with its wrapping just below 256 KiB, as GridFS recommends
CHUNKS_AT_ONCE: Final = 2
ABANDONED_AFTER: Final = timedelta(hours=2)
SWEEP_BATCH: Final = 500
BUCKET: Final = "large_bodies"

log = structlog.get_logger(__name__)
_SWEPT: Final = Counter("postern_edge_bodies_swept_total", "Bodies without a message that were removed.")


class BodyGone(Exception):
    """The message's body does not exist."""


def stored_documents(entries: Iterable[Entry]) -> tuple[list[Document], list[Document]]:
    """What is inserted for messages: into `bodies`, where their bodies lie apart, and then into `messages`."""
    bodies: list[Document] = []
    messages: list[Document] = []
    for entry in entries:
        document = entry.document
        if document["body"] == "message":
            document = {**document, "content": entry.body}
        elif document["body"] == "bodies":
            own = {key: document[key] for key in ("_id", "customer_id")}
            bodies.append({**own, "data": entry.body, "stored_at": document["received_at"]})
        messages.append(document)
    return bodies, messages


class Upload:
    """A large body on its way into GridFS, in the form that its specification gives to chunks and files.

    The driver's own writer takes 48 MB into memory before it stores anything, of each body: here `write` returns when
    what it was given is stored, save for a piece smaller than a chunk, so that a slow store slows the client down.
    """

    def __init__(self, store: "BodyStore", body_id: str) -> None:
        self._store = store
        self._body_id = body_id
        self._begun = False
        self._left = bytearray()  # the beginning of the next chunk
        self._chunks = 0
        self._putting: asyncio.Future[None] | None = None
        self._size = 0

    async def write(self, chunk: bytes) -> None:
        """Store the next bytes."""
        self._left += chunk
        self._size += len(chunk)
        try:
            await self._begin()
            while len(self._left) >= CHUNK_BYTES:
                await self._put(min(len(self._left) // CHUNK_BYTES, CHUNKS_AT_ONCE) * CHUNK_BYTES)
        except PyMongoError as error:
            raise Temporary(f"body store: {type(error).__name__}") from error

    async def close(self) -> StoredBody:
        """Make every byte durable."""
        try:
            await self._begin()
            if self._left:
                await self._put(len(self._left))
            await self._store.put_file(self._body_id, self._size)
        except PyMongoError as error:
            raise Temporary(f"body store: {type(error).__name__}") from error
        return StoredBody(self._body_id, self._size)

    async def abort(self) -> None:
        """Forget what was written; the sweeper does it if the database is away."""
        self._left.clear()
        if self._putting is not None:
            await asyncio.wait({self._putting})  # else its chunks would come after the removal, and stay
        try:
            await self._store.remove([self._body_id])
        except (PyMongoError, Temporary) as error:
            log.info("upload_not_removed", error=type(error).__name__)

    async def _begin(self) -> None:
        if not self._begun:
            await self._store.begin(self._body_id)
            self._begun = True

    async def _put(self, size: int) -> None:
        with memoryview(self._left)[:size] as taken:
            pieces = [bytes(taken[start : start + CHUNK_BYTES]) for start in range(0, size, CHUNK_BYTES)]
        del self._left[:size]
        # The driver's threads finish what they began, also where nobody waits for it any more.
        self._putting = asyncio.ensure_future(self._store.put_chunks(self._body_id, self._chunks, pieces))
        self._chunks += len(pieces)
        await asyncio.shield(self._putting)


class BodyStore:
    """Reads, removes and streams bodies."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._bodies = mongo.collection(Collections.BODIES, PLATFORM)
        self._messages = mongo.collection(Collections.MESSAGES, PLATFORM)
        self._bucket = AsyncIOMotorGridFSBucket(
            mongo.db, BUCKET, chunk_size_bytes=CHUNK_BYTES, write_concern=WriteConcern("majority", j=True)
        )
        self._files, self._chunks = (mongo.db[f"{BUCKET}.{kind}"] for kind in ("files", "chunks"))
        self._indexed = False

    def upload(self) -> Upload:
        """Begin to store a large body under a new message id."""
        return Upload(self, new_id("msg"))

    async def begin(self, body_id: str) -> None:
        """Note the body, before its first chunk."""
        if not self._indexed:
            await self._chunks.create_index([("files_id", 1), ("n", 1)], unique=True)
            self._indexed = True
        await self._bodies.insert_one(
            {"_id": body_id, "customer_id": "", "large": True, "stored_at": self._mongo.clock.now()}
        )

    async def put_chunks(self, body_id: str, first: int, pieces: Sequence[bytes]) -> None:
        """Store chunks, numbered from `first` on."""
        chunks = [{"files_id": body_id, "n": number, "data": data} for number, data in enumerate(pieces, first)]
        await self._chunks.insert_many(chunks)

    async def put_file(self, body_id: str, size: int) -> None:
        """Make a file of the chunks."""
        now = self._mongo.clock.now()
        file = {"_id": body_id, "filename": body_id, "length": Int64(size), "chunkSize": CHUNK_BYTES, "uploadDate": now}
        await self._files.insert_one(file)

    async def keep(self, stored: StoredBody, message_id: str, customer_id: str) -> None:
        """Give an uploaded body to a message; a second customer's message gets a copy of its own."""
        try:
            if message_id != stored.body_id:
                copy = Upload(self, message_id)
                async for chunk in self.chunks(stored.body_id):
                    await copy.write(chunk)
                await copy.close()
            if not await self._bodies.update_one({"_id": message_id}, {"$set": {"customer_id": customer_id}}):
                raise Temporary("body store: the upload was swept away")
        except PyMongoError as error:
            raise Temporary(f"body store: {type(error).__name__}") from error

    async def read(self, message: Mapping[str, Any]) -> bytes:
        """The body of a message, given as its document, that fits into memory; raises `BodyGone`."""
        if message["body"] == "gridfs":
            return b"".join([chunk async for chunk in self.chunks(message["_id"])])
        kept, field = (self._messages, "content") if message["body"] == "message" else (self._bodies, "data")
        found = await kept.find_one({"_id": message["_id"]}, projection={field: 1})
        if found is None or field not in found:
            raise BodyGone(message["_id"])
        return bytes(found[field])

    async def head(self, message: Mapping[str, Any]) -> bytes:
        """The beginning of a message's body, with its headers; raises `BodyGone`."""
        if message["body"] != "gridfs":
            return await self.read(message)
        async for chunk in self.chunks(message["_id"]):
            return chunk
        return b""

    async def chunks(self, message_id: str) -> AsyncIterator[bytes]:
        """A large body, piece by piece; raises `BodyGone`."""
        try:
            file = await self._bucket.open_download_stream(message_id)
            while chunk := await file.readchunk():
                yield bytes(chunk)
        except NoFile as error:
            raise BodyGone(message_id) from error
        except PyMongoError as error:
            raise Temporary(f"body store: {type(error).__name__}") from error

    async def remove(self, message_ids: Sequence[str]) -> None:
        """Remove bodies, large and small."""
        ids = list(message_ids)
        large = await self._bodies.find({"_id": {"$in": ids}, "large": True}, limit=len(ids), projection={"_id": 1})
        for document in large:
            await self._remove_file(document["_id"])
        await self._bodies.delete_many({"_id": {"$in": ids}})

    async def _remove_file(self, body_id: str) -> None:
        try:
            await self._bucket.delete(body_id)
        except NoFile:
            return  # never finished, or removed by another edge; the driver has removed the chunks before it says so
        except PyMongoError as error:
            raise Temporary(f"body store: {type(error).__name__}") from error

    async def sweep(self) -> int:
        """Remove bodies that no message has after two hours: uploads that broke off, commits that died half-way."""
        real_time = await self._mongo.now() - self._mongo.clock.offset  # as in the ids; a wrong clock sweeps nothing
        oldest = _id_at(real_time - ABANDONED_AFTER)
        last, removed = "", 0
        while True:
            found = await self._bodies.find(
                {"_id": {"$gt": last, "$lt": oldest}}, limit=SWEEP_BATCH, sort=[("_id", 1)], projection={"_id": 1}
            )
            if not found:
                return removed
            ids = [document["_id"] for document in found]
            last = ids[-1]
            kept = await self._messages.find(
                {"_id": {"$in": ids}, "state": {"$ne": "done"}}, limit=SWEEP_BATCH, projection={"_id": 1}
            )
            orphans = sorted(set(ids) - {document["_id"] for document in kept})
            if orphans:
                await self.remove(orphans)
                removed += len(orphans)
                _SWEPT.inc(len(orphans))


def _id_at(moment: datetime) -> str:
    """The smallest message id of a moment: ids begin with their time (RFC 9562 5.7)."""
    milliseconds = int(moment.astimezone(UTC).timestamp() * 1000)
    return f"msg_{milliseconds << 80:032x}"
