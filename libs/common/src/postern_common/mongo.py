"""MongoDB behind one door. Only this module and type names know the driver (docs/decisions/0001-motor.md).

`collection(name, scope)` is the only way to a tenant's data: a `TenantScope` puts its `customer_id` into every filter
and every new document, so that a query cannot reach another tenant; `PLATFORM` is for work above tenants and is as
visible as its name. Writes are acknowledged by a majority and journaled; reads see what a majority has.

The driver's errors leave as `Temporary` (the database cannot be reached or is changing its primary), save the two that
callers decide on: `DuplicateKey`, and within a transaction those that make it start again.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, TypeVar

import structlog
from bson.codec_options import CodecOptions
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo import AsyncMongoClient, IndexModel, ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    ExecutionTimeout,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.indexes import STORED
from postern_common.mongo_errors import is_unavailable
from postern_common.settings import CommonSettings

Document = dict[str, Any]
Session = AsyncIOMotorClientSession
DuplicateKey = DuplicateKeyError
T = TypeVar("T")

log = structlog.get_logger(__name__)

MAX_SKEW: Final = timedelta(seconds=60)
TRANSACTION_SECONDS: Final = 15.0
SELECT_SERVER_MS: Final = 4_000
SOCKET_MS: Final = 30_000
# A primary that went silent is noticed by the driver's monitor within its heartbeat and the connect timeout, about 6 s;
# operations under way fail then, so the socket's own timeout only bounds a server that lives but does not answer.
HEARTBEAT_MS: Final = 2_000
WAIT_FOR_CONNECTION_MS: Final = 5_000

AFTER: Final = ReturnDocument.AFTER
BEFORE: Final = ReturnDocument.BEFORE


class ClockSkew(Temporary):
    """This machine's clock and the database's are too far apart for deciding what is due (SPEC X4)."""


@dataclass(frozen=True, slots=True)
class TenantScope:
    """The one customer whose documents may be seen. It comes from the signed-in principal or from an event."""

    customer_id: str

    def __post_init__(self) -> None:
        if not self.customer_id:
            raise ValueError("a tenant scope needs a customer id")


@dataclass(frozen=True, slots=True)
class PlatformScope:
    """All customers' documents: for schedulers, the mail path and platform administrators."""


Scope = TenantScope | PlatformScope
PLATFORM: Final = PlatformScope()


class Scoped:
    """A collection seen through a scope. Methods mirror the driver's; filters and new documents get the tenant's id."""

    def __init__(self, raw: AsyncIOMotorCollection[Document], scope: Scope, tenant_field: str | None) -> None:
        self._raw = raw
        self._tenant: Document = {}
        if isinstance(scope, TenantScope):
            if tenant_field is None:
                raise TypeError(f"{raw.name} does not belong to tenants")
            self._tenant = {tenant_field: scope.customer_id}

    def _filter(self, query: Mapping[str, Any] | None) -> Document:
        wanted = dict(query or {})
        for key, value in self._tenant.items():
            if wanted.setdefault(key, value) != value:
                return {"$and": [wanted, self._tenant]}
        return wanted

    def _own(self, document: Document) -> Document:
        for key, value in self._tenant.items():
            if document.setdefault(key, value) != value:
                raise PermissionError(f"a document of another tenant for {self._raw.name}")
        return document

    async def find_one(
        self, query: Mapping[str, Any], *, session: Session | None = None, **options: Any
    ) -> Document | None:
        """The first match, or None."""
        async with _translated(session):
            found: Document | None = await self._raw.find_one(self._filter(query), session=session, **options)
            return found

    async def find(
        self,
        query: Mapping[str, Any],
        *,
        limit: int,
        sort: Sequence[tuple[str, int]] = (),
        session: Session | None = None,
        **options: Any,
    ) -> list[Document]:
        """At most `limit` matches, in the order of `sort`."""
        async with _translated(session):
            cursor = self._raw.find(self._filter(query), session=session, **options).limit(limit)
            if sort:
                cursor = cursor.sort(list(sort))
            found: list[Document] = await cursor.to_list(length=limit)
            return found

    async def stream(
        self, query: Mapping[str, Any], *, session: Session | None = None, **options: Any
    ) -> AsyncIterator[Document]:
        """All matches, in batches behind the scenes."""
        async with _translated(session):
            async for document in self._raw.find(self._filter(query), session=session, **options):
                yield document

    async def count(self, query: Mapping[str, Any], *, limit: int = 0, session: Session | None = None) -> int:
        """How many match, counting at most `limit` where it is given."""
        async with _translated(session):
            options = {"limit": limit} if limit else {}
            return int(await self._raw.count_documents(self._filter(query), session=session, **options))

    async def insert_one(self, document: Document, *, session: Session | None = None) -> None:
        """Insert; raises `DuplicateKey` where an index forbids it."""
        async with _translated(session):
            await self._raw.insert_one(self._own(document), session=session)

    async def insert_many(
        self, documents: Sequence[Document], *, ordered: bool = True, session: Session | None = None
    ) -> None:
        """Insert several; raises `DuplicateKey` where an index forbids one."""
        owned = [self._own(document) for document in documents]
        async with _translated(session):
            try:
                await self._raw.insert_many(owned, ordered=ordered, session=session)
            except BulkWriteError as error:  # the driver tells many and one apart, callers need not
                faults = (error.details or {}).get("writeErrors", ())
                twice = [fault for fault in faults if fault["code"] == 11000]
                if not twice:
                    raise
                raise DuplicateKey(twice[0]["errmsg"], 11000, twice[0]) from error

    async def update_one(
        self, query: Mapping[str, Any], change: Any, *, session: Session | None = None, **options: Any
    ) -> int:
        """Change the first match; the number of documents matched."""
        async with _translated(session):
            result = await self._raw.update_one(self._filter(query), change, session=session, **options)
            return int(result.matched_count)

    async def update_many(
        self, query: Mapping[str, Any], change: Any, *, session: Session | None = None, **options: Any
    ) -> int:
        """Change all matches; the number of documents matched."""
        async with _translated(session):
            result = await self._raw.update_many(self._filter(query), change, session=session, **options)
            return int(result.matched_count)

    async def update_each(
        self, changes: Sequence[tuple[Mapping[str, Any], Any]], *, session: Session | None = None
    ) -> int:
        """Change the first match of each filter, all in one request; the number of documents matched."""
        requests = [UpdateOne(self._filter(query), change) for query, change in changes]
        async with _translated(session):
            return int((await self._raw.bulk_write(requests, session=session)).matched_count)

    async def find_one_and_update(
        self,
        query: Mapping[str, Any],
        change: Any,
        *,
        session: Session | None = None,
        return_document: bool = AFTER,
        **options: Any,
    ) -> Document | None:
        """Change the first match in one step and return it (as it is after, unless said otherwise)."""
        async with _translated(session):
            found: Document | None = await self._raw.find_one_and_update(
                self._filter(query), change, session=session, return_document=return_document, **options
            )
            return found

    async def find_one_and_delete(
        self, query: Mapping[str, Any], *, session: Session | None = None, **options: Any
    ) -> Document | None:
        """Remove the first match in one step and return it."""
        async with _translated(session):
            found: Document | None = await self._raw.find_one_and_delete(
                self._filter(query), session=session, **options
            )
            return found

    async def delete_one(self, query: Mapping[str, Any], *, session: Session | None = None) -> int:
        """Remove the first match; 1 or 0."""
        async with _translated(session):
            return int((await self._raw.delete_one(self._filter(query), session=session)).deleted_count)

    async def delete_many(self, query: Mapping[str, Any], *, session: Session | None = None) -> int:
        """Remove all matches; how many."""
        async with _translated(session):
            return int((await self._raw.delete_many(self._filter(query), session=session)).deleted_count)


class Mongo:
    """A client of the replica set, and the database of this deployment."""

    def __init__(
        self, client: AsyncIOMotorClient[Document], direct: AsyncMongoClient[Document], database: str, clock: Clock
    ) -> None:
        self.client = client
        self.direct_client = direct
        self.clock = clock
        options: CodecOptions[Document] = CodecOptions(tz_aware=True)
        self.db: AsyncIOMotorDatabase[Document] = client.get_database(database, codec_options=options)
        self._direct = {name: direct.get_database(database, codec_options=options)[name.value] for name in Collections}
        self._collections = {name: self.db[name.value] for name in Collections}  # each costs too much to be made anew

    @classmethod
    def connect(
        cls, settings: CommonSettings, clock: Clock, *, application: str = "postern", pool_size: int = 50
    ) -> Self:
        """Make a client. Nothing is asked of the server yet."""
        uri = settings.mongodb_uri.get_secret_value()
        own = {**_client_options(), "appname": application, "maxPoolSize": pool_size}
        return cls(AsyncIOMotorClient(uri, **own), AsyncMongoClient(uri, **own), settings.mongodb_database, clock)

    def close(self) -> None:
        """Close all connections, save those of `direct`."""
        self.client.close()

    async def close_direct(self) -> None:
        """Close the connections of `direct`; for who has used it."""
        await self.direct_client.close()

    def collection(self, name: Collections, scope: Scope) -> Scoped:
        """The collection `name` as `scope` may see it. Customers are keyed by their own id."""
        field = "_id" if name is Collections.CUSTOMERS else "customer_id" if STORED[name].tenant else None
        return Scoped(self._collections[name], scope, field)

    def direct(self, name: Collections) -> AsyncCollection[Document]:
        """The collection by the driver without threads, for group writes of the mail path; no scope (decision 0001)."""
        return self._direct[name]

    async def ping(self) -> None:
        """Raise `Temporary` unless the primary answers."""
        async with _translated(None):
            await self.db.command("ping")

    async def server_time(self) -> datetime:
        """The database's time plus the clock's test offset; for leases."""
        async with _translated(None):
            reply = await self.client.admin.command("hello")
        local: datetime = reply["localTime"]
        return local.replace(tzinfo=UTC) + self.clock.offset

    async def now(self) -> datetime:
        """The time by which due things are decided.

        The database's; raise `ClockSkew` if ours is off by more than 60 s.
        """
        before = datetime.now(UTC)
        theirs = await self.server_time() - self.clock.offset
        after = datetime.now(UTC)
        if theirs < before - MAX_SKEW or theirs > after + MAX_SKEW:
            raise ClockSkew(f"the clock is {abs((theirs - after).total_seconds()):.0f} s off the database's")
        return theirs + self.clock.offset

    async def transact(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run `work(session)` in a transaction: all of its writes or none.

        `work` runs again when the transaction meets another one, so it must do nothing outside of the database. Raises
        `Temporary` where that, or the commit, does not succeed in time; it may then have been committed all the same.
        """
        deadline = asyncio.get_running_loop().time() + TRANSACTION_SECONDS
        async with _translated(None), await self.client.start_session() as session:
            attempt = 0
            while True:
                try:
                    return await _run_once(session, work, deadline)
                except PyMongoError as error:
                    attempt += 1
                    # Not for a server that could not be selected: that was already waited for.
                    again = error.has_error_label("TransientTransactionError")
                    again = again and not isinstance(error, ServerSelectionTimeoutError)
                    if not again or asyncio.get_running_loop().time() > deadline:
                        raise
                    await asyncio.sleep(random.uniform(0, min(0.5, 0.005 * 2**attempt)))

    async def ensure_indexes(self) -> None:
        """Create the collections' indexes where they are missing; every service does it when it starts."""
        async with _translated(None):
            for name, stored in STORED.items():
                models = [IndexModel(list(index.keys), **index.options) for index in stored.indexes]
                if models:
                    await self.db[name.value].create_indexes(models)

    async def prepare(self) -> None:
        """Create the indexes, however long the database is away; a service does it before it works."""
        pause = 0.5
        while True:
            try:
                await self.ensure_indexes()
                return
            except Temporary as error:
                log.warning("database_awaited", reason=error.reason, pause_seconds=pause)
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(pause * 2, 10.0)


def _client_options() -> dict[str, Any]:
    return {
        "serverSelectionTimeoutMS": SELECT_SERVER_MS,
        "connectTimeoutMS": SELECT_SERVER_MS,
        "socketTimeoutMS": SOCKET_MS,
        "waitQueueTimeoutMS": WAIT_FOR_CONNECTION_MS,
        "heartbeatFrequencyMS": HEARTBEAT_MS,
        "w": "majority",
        "journal": True,
        "readConcernLevel": "majority",
    }


async def _run_once(session: Session, work: Callable[[Session], Awaitable[T]], deadline: float) -> T:
    session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority", j=True))
    try:
        result = await work(session)
    except BaseException:
        await session.abort_transaction()
        raise
    while True:
        try:
            await session.commit_transaction()
            return result
        except PyMongoError as error:
            # The commit may be repeated safely as long as its result is not known (MongoDB transactions specification).
            if not error.has_error_label("UnknownTransactionCommitResult") or isinstance(error, ExecutionTimeout):
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(random.uniform(0.05, 0.2))


@asynccontextmanager
async def _translated(session: Session | None) -> AsyncIterator[None]:
    """Turn "the database is away" into `Temporary`.

    Within a transaction the driver's error must reach `transact` as it is.
    """
    try:
        yield
    except PyMongoError as error:
        transient = error.has_error_label("TransientTransactionError")
        if session is None and not isinstance(error, DuplicateKeyError) and (is_unavailable(error) or transient):
            raise Temporary(f"database: {type(error).__name__}", timedelta(seconds=2)) from error
        raise
