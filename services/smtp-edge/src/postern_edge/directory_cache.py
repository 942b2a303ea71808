"""Keeps the edge's directory current: reads everything once, then follows MongoDB's change stream (DESIGN 9).

The stream is opened before the first read, so that nothing falls between the two: a change that was read already is
applied again and changes nothing. It is reopened where it broke off, after growing pauses; where the database no
longer has the changes in between, everything is read anew. A removed address comes with its image from before, which
the collection is asked to keep; without it, everything is read anew too.
"""

import asyncio
import gc
import random
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge
from pymongo.errors import OperationFailure, PyMongoError

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.mongo import PLATFORM, Mongo
from postern_edge.directory_index import Directory, DirectoryIndex

AWAIT_MS: Final = 500
LONGEST_PAUSE_SECONDS: Final = 10.0
READ_BATCH: Final = 5000
SMALL_LAG_SECONDS: Final = 5.0  # changes that come without a pause, and are this young, show that we keep up
# What is read of each collection: which documents, and which of their fields.
_READ: Final[Mapping[Collections, tuple[dict[str, Any], list[str] | None]]] = {
    Collections.CUSTOMERS: ({}, None),
    Collections.SITES: ({}, None),
    Collections.DOMAINS: ({}, ["name", "customer_id", "state", "site_id"]),
    Collections.USERS: ({"site_id": {"$ne": None}}, ["site_id"]),
    Collections.ADDRESSES: ({"verified": True}, ["key", "user_id", "verified"]),
    Collections.KNOWN_ADDRESSES: ({}, ["customer_id", "key"]),
}
_DOCUMENT_CHANGES: Final = frozenset({"insert", "update", "replace", "delete"})
_STREAM_LOST: Final = frozenset({136, 234, 260, 280, 286})  # capped position lost, … change stream history lost

log = structlog.get_logger(__name__)
_ADDRESSES = Gauge("postern_edge_directory_addresses", "Addresses known by heart.")
_AGE = Gauge("postern_edge_directory_fresh", "1 while unknown recipients may be refused.")
_CHANGES = Counter("postern_edge_directory_changes_total", "Changes taken from the change stream.")
_READS = Counter("postern_edge_directory_reads_total", "Full reads of the directory.")


class ReadAnew(Exception):
    """The changes cannot be followed from where we stand."""


class DirectoryCache:
    """Fills `directory` and follows the database."""

    def __init__(self, mongo: Mongo, directory: Directory) -> None:
        self._mongo = mongo
        self._directory = directory
        self._token: Mapping[str, Any] | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        pause = 0.1
        while True:
            try:
                await self._follow()
            except Temporary as error:
                log.warning("directory_not_read", reason=error.reason)
            except ReadAnew as reason:
                log.warning("directory_read_anew", reason=str(reason))
                self._token = None
            except OperationFailure as error:
                if error.code in _STREAM_LOST or error.has_error_label("NonResumableChangeStreamError"):
                    self._token = None
                log.warning("directory_stream_broken", error=type(error).__name__, code=error.code)
            except PyMongoError as error:
                log.warning("directory_stream_broken", error=type(error).__name__)
            _AGE.set(self._directory.fresh)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = 0.1 if self._directory.fresh else min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _keep_images(self) -> None:
        """Ask the database to keep what a removed address was; harmless where that is not allowed."""
        change = {"collMod": Collections.ADDRESSES.value, "changeStreamPreAndPostImages": {"enabled": True}}
        try:
            await self._mongo.db.command(change)
        except PyMongoError as error:
            log.info("directory_without_images", error=type(error).__name__)

    async def _follow(self) -> None:
        await self._keep_images()
        options: dict[str, Any] = {"resume_after": self._token} if self._token is not None else {}
        pipeline = [
            {"$match": {"$or": [{"ns.coll": {"$in": [name.value for name in _READ]}}, {"operationType": "invalidate"}]}}
        ]
        async with self._mongo.db.watch(
            pipeline,
            full_document="updateLookup",
            full_document_before_change="whenAvailable",
            max_await_time_ms=AWAIT_MS,
            **options,
        ) as stream:
            if self._token is None:
                await self._read_all()
            while True:
                change = await stream.try_next()
                self._token = stream.resume_token
                if change is not None:
                    _apply(self._directory.index, change)
                    _CHANGES.inc()
                if change is None or time.time() - change["clusterTime"].time <= SMALL_LAG_SECONDS:
                    self._directory.alive()
                    _AGE.set(1)

    async def _read_all(self) -> None:
        index = DirectoryIndex()
        for name, (query, fields) in _READ.items():
            collection = self._mongo.collection(name, PLATFORM)
            async for document in collection.stream(query, projection=fields, batch_size=READ_BATCH):
                _put(index, name, document["_id"], document)
        self._directory.replace(index)
        # A collection of the oldest generation would look at all of it, and all sessions wait meanwhile: 0.1 s for
        # 100,000 customers. It does so once here: what is garbage by now would be frozen for ever.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        _READS.inc()
        _ADDRESSES.set(index.addresses)
        log.info("directory_read", addresses=index.addresses, customers=len(index.customers))


def _apply(index: DirectoryIndex, change: Mapping[str, Any]) -> None:
    """Take one change. A document that is gone again by the time of an update's look-up counts as removed."""
    kind = change["operationType"]
    if kind not in _DOCUMENT_CHANGES:
        raise ReadAnew(kind)  # dropped, renamed, invalidated: the next read shows what is left
    name = Collections(change["ns"]["coll"])
    document = change.get("fullDocument")
    before = change.get("fullDocumentBeforeChange")
    if name is Collections.ADDRESSES:
        if before is not None and "key" in before and "user_id" in before:
            index.remove_address(before)
        elif kind == "delete":
            raise ReadAnew("an address was removed and the database kept no image of it")
    elif document is None and kind != "delete":
        return  # its removal follows in the stream
    if document is not None or name is not Collections.ADDRESSES:
        _put(index, name, change["documentKey"]["_id"], document)


def _put(index: DirectoryIndex, name: Collections, key: Any, document: Mapping[str, Any] | None) -> None:
    """Take one document; a broken one is logged and left out, and spoils nothing else."""
    try:
        _put_into(index, name, key, document)
    except (KeyError, TypeError, ValueError):
        log.exception("directory_document_unreadable", collection=name.value)


def _put_into(index: DirectoryIndex, name: Collections, key: Any, document: Mapping[str, Any] | None) -> None:
    if name is Collections.ADDRESSES:
        if document is not None:
            index.put_address(document)
    elif name is Collections.DOMAINS:
        index.put_domain(key, document)
    elif name is Collections.SITES:
        index.put_site(key, document)
    elif name is Collections.USERS:
        index.put_user(key, document)
    elif name is Collections.KNOWN_ADDRESSES:
        index.put_known(key, document)
    elif name is Collections.CUSTOMERS:
        index.put_customer(key, document)
