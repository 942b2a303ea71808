"""A directory as a script: what the next read gives, and where it waits or fails; and a worker that reads it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from postern_common.clock import Clock
from postern_common.directory_documents import DeltaDocument
from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_common.mongo import Mongo
from postern_sync.engine import Engine
from postern_sync.rules.entries import Entry, Mailbox
from postern_sync.runs.documents import new_run
from postern_sync.runs.runner import Runner
from postern_sync.runs.store import RunStore
from postern_sync.settings import SyncSettings
from postern_sync.source import Reading, ReadReport
from tests.servers.stored import Stored, connect

PAGE = 500
RUNS = Collections.SYNC_RUNS
USERS = Collections.USERS
CUSTOMERS = Collections.CUSTOMERS
ADDRESSES = Collections.ADDRESSES
PLAN_ITEMS = Collections.PLAN_ITEMS
DIRECTORIES = Collections.DIRECTORIES


def entry(number: int | str, address: str, *aliases: str, **fields: Any) -> Entry:
    """A person (or list) of a directory."""
    entry_id = f"id-{number}"
    plain = {"first_name": "Ann", "last_name": f"Lee {number}"}
    boxes = tuple(box for alias in aliases if (box := Mailbox.parse(alias)) is not None)
    values: dict[str, Any] = {
        "id": entry_id, "id_kind": "entryUUID", "immutable_id": None, "name": f"cn={number}", "kind": "user",
        "is_disabled": False, "primary": Mailbox.parse(address), "aliases": boxes, "fields": plain, "refs": (entry_id,),
    }  # fmt: skip
    return Entry(**(values | fields))


def people(count: int, domain: str, start: int = 0) -> list[Entry]:
    """So many people."""
    return [entry(f"{number:06d}", f"u{number:06d}@{domain}") for number in range(start, start + count)]


class ScriptedSource:
    """Reads `entries` and `members`; `pause` is awaited after each page; `report` changes what it reports."""

    def __init__(self, entries: Iterable[Entry] = (), members: dict[str, list[str]] | None = None) -> None:
        self.entries = list(entries)
        self.members = members or {}
        self.pause: Callable[[], Awaitable[None]] | None = None
        self.failure: Exception | None = None
        self.report: dict[str, Any] = {}
        self.delta: DeltaDocument | None = None
        self.reads = 0
        self.keeps: list[bool] = []

    def __call__(self, directory: Any, *, keeps: bool) -> "ScriptedSource":
        self.keeps.append(keeps)
        return self

    async def read(self, reading: Reading) -> ReadReport:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        for start in range(0, len(self.entries), PAGE):
            reading.put(self.entries[start : start + PAGE])
            reading.progress(phase="entries", read=min(start + PAGE, len(self.entries)))
            if self.pause is not None:
                await self.pause()
            await asyncio.sleep(0)
        for group_id, refs in self.members.items():
            reading.put_members(group_id, refs)
        groups = sum(found.kind == "list" for found in self.entries)
        values: dict[str, Any] = {"users": len(self.entries) - groups, "groups": groups, "delta": self.delta}
        return ReadReport(**(values | self.report))


def sync_settings(uri: str, database: str, **fields: Any) -> SyncSettings:
    """Settings of a worker."""
    return SyncSettings.model_validate(
        {
            "MONGODB_URI": SecretStr(uri), "mongodb_database": database, "AMQP_URL": SecretStr("amqp://unused"),
            "environment": "test", **fields,
        }
    )  # fmt: skip


class Worker:
    """A worker in this process."""

    def __init__(self, mongo: Mongo, settings: SyncSettings, source: Any, **options: Any) -> None:
        self.engine = Engine(mongo, settings, source)
        self.store = RunStore(mongo)
        values: dict[str, Any] = {"poll_seconds": 0.05, "retry": timedelta(seconds=0.05)}
        self.runner = Runner(self.store, self.engine, **(values | options))

    async def work(self) -> int:
        """Do all runs that wait; how many were begun."""
        begun = 0
        while found := await self.runner.claim_waiting():
            begun += found
            await self.runner.idle()
        return begun


class SyncStory:
    """A customer with a directory and verified domains, and what becomes of it."""

    def __init__(self, stored: Stored, settings: SyncSettings, source: ScriptedSource) -> None:
        self.stored = stored
        self.mongo = stored.mongo
        self.settings = settings
        self.source = source
        self.customer_id = ""
        self.domain = ""

    async def begin(self, *, domains: int = 1, directory: dict[str, Any] | None = None, **customer: Any) -> None:
        """Make the customer."""
        self.customer_id = (await self.stored.customer(**customer))["_id"]
        names = [f"{new_id('dom')[4:]}.test" for _ in range(domains)]
        self.domain = names[0]
        for name in names:
            await self.stored.domain(name, customer_id=self.customer_id, state="verified", next_check_at=None)
        await self.stored.put(*directory_document(self.customer_id, **(directory or {})))

    def worker(self, **options: Any) -> Worker:
        """Another worker."""
        return Worker(self.mongo, self.settings, self.source, **options)

    async def ask(self, kind: str = "sync", **fields: Any) -> str:
        """Ask for a run; its id."""
        run = new_run(self.customer_id, "adm_1", self.mongo.clock.now()) | {"kind": kind} | fields
        await self.stored.put(RUNS, run)
        return str(run["_id"])

    async def sync(self, kind: str = "sync", **fields: Any) -> dict[str, Any]:
        """Ask for a run and do it; the run's record."""
        run_id = await self.ask(kind, **fields)
        await self.worker().work()
        return await self.run(run_id)

    async def run(self, run_id: str) -> dict[str, Any]:
        """A run's record."""
        return await self.stored.get(RUNS, run_id)

    async def users(self, **query: Any) -> dict[str, dict[str, Any]]:
        """The customer's users by their primary address."""
        found = await self.stored.all(USERS, customer_id=self.customer_id, **query)
        return {user["email"]: user for user in found}

    async def addresses(self) -> dict[str, tuple[str, bool]]:
        """Whose each address is, and whether it is the primary one."""
        found = await self.stored.all(ADDRESSES, customer_id=self.customer_id)
        return {row["key"]: (row["user_id"], row["is_primary"]) for row in found}

    async def items(self, run_id: str, **query: Any) -> list[dict[str, Any]]:
        """The items of a run's plan."""
        found = await self.stored.all(PLAN_ITEMS, run_id=run_id, **query)
        return sorted(found, key=lambda item: item["seq"])

    async def directory(self) -> dict[str, Any]:
        """The directory's document."""
        [found] = await self.stored.all(DIRECTORIES, customer_id=self.customer_id)
        return found

    async def customer(self) -> dict[str, Any]:
        """The customer's document."""
        return await self.stored.get(CUSTOMERS, self.customer_id)

    async def set_user(self, email: str, **fields: Any) -> None:
        """Change a user as somebody else would."""
        user = (await self.users())[email]
        await self.stored.set(USERS, user["_id"], version=user["version"] + 1, **fields)

    async def in_step(self) -> bool:
        """Whether users and the collection of addresses say the same."""
        wanted = {}
        for user in (await self.users()).values():
            wanted[user["email_key"]] = (user["_id"], True)
            wanted |= {alias["key"]: (user["_id"], False) for alias in user["aliases"]}
        return wanted == await self.addresses()


def directory_document(customer_id: str, **fields: Any) -> tuple[Any, dict[str, Any]]:
    """The collection of directories, and a directory that is never due by itself."""
    now = Clock().now()
    ldap = {
        "connection": "direct", "preset": "openldap", "host": "ldap.example.test", "port": None, "second_host": None,
        "security": "ldaps", "verify_certificate": True, "ca_certificates": None, "fingerprint": None, "user": "",
        "password": None, "base_dn": "dc=test", "user_filter": "", "group_filter": "", "attributes": {},
        "primary_from_upn": False, "page_size": 500,
    }  # fmt: skip
    guard = {
        "mode": "both", "max_count": 500, "max_percent": 5.0, "min_floor": 5, "max_aliases": 1000, "max_members": 5000,
    }  # fmt: skip
    document = {
        "_id": new_id("dir"), "customer_id": customer_id, "provider": "ldap", "enabled": True, "interval_hours": 6,
        "include_disabled": False, "include_public_folders": False, "include_hidden": True, "absent_runs": 1,
        "freeze_on_disable": False, "frozen": False, "guard": guard, "ldap": ldap, "entra": None, "created_at": now,
        "updated_at": now, "version": 1, "next_run_at": None, "last_run_id": None, "last_good": None, "delta": None,
        "warned_days": [],
    }  # fmt: skip
    return DIRECTORIES, document | fields


@pytest.fixture
async def story(mongo_uri, database):
    """A customer with a directory, and nobody in it."""
    mongo = connect(mongo_uri, database)
    await mongo.ensure_indexes()
    made = SyncStory(Stored(mongo), sync_settings(mongo_uri, database), ScriptedSource())
    await made.begin()
    yield made
    mongo.close()
