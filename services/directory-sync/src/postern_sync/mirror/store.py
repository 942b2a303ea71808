"""The mirror: what a directory had whose changes are read rather than the whole (SPEC E2, L4).

A run streams it whole, so that what a run missed is never lost with the position in the changes. Objects that stayed
the same are not written. The last batch of a reading and the position that it leads to are one transaction: a position
stands for what is stored, never for more. Of two workers that write at a time the one that began first loses at its
next batch, so that no batch of an older reading lands under a newer position.
"""

import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from postern_common.directory_documents import DeltaDocument
from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.mongo import DuplicateKey, Mongo, Session, TenantScope

Document = dict[str, Any]
MirrorSource = Literal["entra", "agent"]
Removed = Literal["soft", "hard"]
BATCH: Final = 1000
# Objects are a kilobyte or so, and one may have thousands of addresses: a thousand of those are no batch.
MAX_WEIGHT: Final = 4 * 1024 * 1024
# Sorts before all objects; it holds the name of whoever writes.
_HEAD: Final = ""
_SHOWN: Final = {"_id": 0, "external_id": 1, "object": 1, "removed": 1, "hash": 1}
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)
_OVERTAKEN: Final = "the mirror is written by another worker"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """An object of the directory. `external_id` is unique in the mirror and tells the kind, such as `user:<id>`;
    `removed` says that the directory has removed it, for good or so that it can come back.
    """

    external_id: str
    object: Document
    removed: Removed | None = None

    @property
    def weight(self) -> int:
        """Roughly how many octets its lists need, which are what grows."""
        lists = (value for value in self.object.values() if isinstance(value, list))
        return sum(len(item) + 50 if isinstance(item, str) else 100 for found in lists for item in found)

    @property
    def hash(self) -> str:
        """Names the content."""
        text = _CANONICAL.encode([self.object, self.removed])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Mirror:
    """The mirror of one customer's directory."""

    def __init__(self, mongo: Mongo, customer_id: str, source: MirrorSource) -> None:
        self._mongo = mongo
        self._customer_id = customer_id
        self._source = source
        self._stored = mongo.collection(Collections.DIRECTORY_MIRROR, TenantScope(customer_id))
        self._directories = mongo.collection(Collections.DIRECTORIES, TenantScope(customer_id))

    async def now(self) -> datetime:
        """The database's time, by which rounds are due."""
        return await self._mongo.server_time()

    async def managed_domains(self) -> frozenset[str]:
        """The customer's domains, verified or not."""
        domains = self._mongo.collection(Collections.DOMAINS, TenantScope(self._customer_id))
        return frozenset([found["name"] async for found in domains.stream({}, projection={"name": 1})])

    async def find(self, external_ids: Sequence[str]) -> dict[str, Mirrored]:
        """Those of the objects that are there."""
        query = {"source": self._source, "external_id": {"$in": list(external_ids)}}
        found = await self._stored.find(query, limit=max(1, len(external_ids)), projection=_SHOWN)
        return {document["external_id"]: _mirrored(document) for document in found}

    async def stream(self) -> AsyncIterator[list[Mirrored]]:
        """All objects in batches, in the order of their ids; a batch is bounded in number and in weight."""
        batch: list[Mirrored] = []
        weight = 0
        query = {"source": self._source, "external_id": {"$gt": _HEAD}}
        options: Document = {"projection": _SHOWN, "sort": [("external_id", 1)], "batch_size": BATCH}
        async for document in self._stored.stream(query, **options):
            batch.append(_mirrored(document))
            weight += batch[-1].weight
            if len(batch) == BATCH or weight >= MAX_WEIGHT:
                yield batch
                batch, weight = [], 0
        if batch:
            yield batch

    async def is_begun(self) -> bool:
        """Whether anything was ever written: without it a position in the changes stands for nothing."""
        head = {"source": self._source, "external_id": _HEAD}
        return await self._stored.find_one(head, projection={"_id": 1}) is not None

    async def begin(self, round_id: str) -> "MirrorWriting":
        """Begin to write what a reading brought, and stop whoever writes now."""
        writer = secrets.token_hex(16)
        key = {"source": self._source, "external_id": _HEAD}
        empty = {"_id": self._key(_HEAD), "hash": "", "removed": None, "round": ""}
        try:
            await self._stored.update_one(
                key, {"$set": {"object": {"writer": writer}}, "$setOnInsert": empty}, upsert=True
            )
        except DuplicateKey:
            raise Temporary(_OVERTAKEN) from None
        return MirrorWriting(self, round_id, writer)

    def _key(self, external_id: str) -> str:
        return f"{self._customer_id}:{self._source}:{external_id}"

    async def write(
        self, writer: str, round_id: str, objects: Sequence[Mirrored], gone: Sequence[str], session: Session
    ) -> None:
        """Write a batch within a transaction, unless another worker has begun; see `MirrorWriting`."""
        head = {"source": self._source, "external_id": _HEAD, "object.writer": writer}
        # A write, so that of two transactions one has to start again and then sees who writes.
        if not await self._stored.update_one(head, {"$inc": {"object.batches": 1}}, session=session):
            raise Temporary(_OVERTAKEN)
        of_source = {"source": self._source}
        if objects:
            ids = [found.external_id for found in objects]
            query = of_source | {"external_id": {"$in": ids}}
            shown = {"_id": 0, "external_id": 1, "hash": 1}
            stored = await self._stored.find(query, limit=len(ids), session=session, projection=shown)
            hashes = {document["external_id"]: document["hash"] for document in stored}
            fresh: list[Document] = []
            changed: list[tuple[Document, Document]] = []
            for found in objects:
                content = _content(found, round_id)
                if found.external_id not in hashes:
                    fresh.append(self._document(found.external_id, content))
                elif hashes[found.external_id] != content["hash"]:
                    changed.append((of_source | {"external_id": found.external_id}, {"$set": content}))
            if fresh:
                await self._stored.insert_many(fresh, session=session)
            if changed:
                await self._stored.update_each(changed, session=session)
        if gone:
            await self._stored.delete_many(of_source | {"external_id": {"$in": list(gone)}}, session=session)

    def _document(self, external_id: str, content: Document) -> Document:
        return {"_id": self._key(external_id), "source": self._source, "external_id": external_id, **content}

    async def transact_write(
        self,
        writer: str,
        round_id: str,
        objects: Sequence[Mirrored],
        gone: Sequence[str],
        noted: Mapping[str, Any] | None = None,
    ) -> None:
        """A batch in one transaction, with what is noted in the directory's document beside it."""

        async def work(session: Session) -> None:
            await self.write(writer, round_id, objects, gone, session)
            if noted:
                await self._directories.update_one({}, {"$set": dict(noted)}, session=session)

        try:
            await self._mongo.transact(work)
        except DuplicateKey:
            raise Temporary(_OVERTAKEN) from None

    async def note_secret_end(self, sealed: str, ends_at: datetime) -> None:
        """Note when the client secret ends, as the directory tells it, while it is still that secret (SPEC E3)."""
        same = {"entra.client_secret": sealed, "entra.credential_expires_at": {"$ne": ends_at}}
        await self._directories.update_one(same, {"$set": {"entra.credential_expires_at": ends_at}})


class MirrorWriting:
    """The writing of what one reading brought: batches, the last of them together with the position."""

    def __init__(self, mirror: Mirror, round_id: str, writer: str) -> None:
        self._mirror = mirror
        self._round_id = round_id
        self._writer = writer

    async def put(self, objects: Sequence[Mirrored], gone: Sequence[str] = ()) -> None:
        """Write a batch. Raises `Temporary` where another worker has begun to write."""
        await self._mirror.transact_write(self._writer, self._round_id, objects, gone)

    async def finish(self, objects: Sequence[Mirrored], gone: Sequence[str], delta: DeltaDocument) -> None:
        """Write the last batch and, with it, where reading goes on."""
        await self._mirror.transact_write(self._writer, self._round_id, objects, gone, {"delta": delta})


def _mirrored(document: Mapping[str, Any]) -> Mirrored:
    return Mirrored(document["external_id"], document["object"], document["removed"])


def _content(found: Mirrored, round_id: str) -> Document:
    return {"object": found.object, "removed": found.removed, "hash": found.hash, "round": round_id}
