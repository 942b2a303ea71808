"""A customer's directory for tests of the API: settings to send, and what directory-sync would store and answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM
from tests.servers.api import Api
from tests.servers.stored import Stored

GUID = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
PASSWORD = "the password of the directory"
CLIENT_SECRET = "the secret of the application"


def ldap(**fields: Any) -> dict[str, Any]:
    """An LDAP directory that the API takes."""
    base = {"host": "127.0.0.9", "user": "cn=postern,dc=acme", "password": PASSWORD, "base_dn": "dc=acme,dc=com"}
    return base | fields


def entra(**fields: Any) -> dict[str, Any]:
    """A Microsoft Entra tenant that the API takes."""
    return {"tenant": "acme.onmicrosoft.com", "client_id": GUID, "client_secret": CLIENT_SECRET} | fields


def settings(provider: str = "ldap", **fields: Any) -> dict[str, Any]:
    """Settings of synchronisation with that provider."""
    parts = {"ldap": ldap()} if provider == "ldap" else {"entra": entra()}
    return {"provider": provider} | parts | fields


def without(part: dict[str, Any], *names: str) -> dict[str, Any]:
    """Settings that leave some things out."""
    return {name: value for name, value in part.items() if name not in names}


async def refused(api: Api, customer: str, pointer: str, *, status: int = 422, **fields: Any) -> dict[str, Any]:
    """Settings are refused because of one field."""
    present = await api.get(f"{customer}/directory")
    headers = {"If-Match": "*"} if present.status_code == 200 else {}
    answer = await api.call("PUT", f"{customer}/directory", settings(**fields), headers=headers, expect=status)
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer], answer.text
    return dict(answer.json())


async def stored_directory(api: Api) -> dict[str, Any]:
    """The one directory, as it is stored."""
    (document,) = await api.all("directories")
    return document


async def set_up(api: Api, customer: str, provider: str = "ldap", **fields: Any) -> dict[str, Any]:
    """Set the customer's directory up; what the API shows of it."""
    made = await api.call("PUT", f"{customer}/directory", settings(provider, **fields), expect=201)
    return dict(made.json())


async def put_run(api: Api, customer: str, **fields: Any) -> dict[str, Any]:
    """A run as directory-sync leaves it: a sync that is completed, unless said otherwise."""
    now = api.mongo.clock.now()
    document = {
        "_id": new_id("run"),
        "customer_id": customer.rsplit("/", 1)[-1],
        "kind": "sync",
        "state": "completed",
        "phase": "ended",
        "requested_by": "schedule",
        "reason": None,
        "created_at": now,
        "started_at": now,
        "finished_at": now + timedelta(seconds=2),
        "provider": "ldap",
        "progress": {"read": 40, "applied": 3, "items": 3},
        "counts": {"read": 40, "added": 2, "updated": 1, "flagged": 0},
        "skipped": {},
        "proof": {"is_complete": True, "reasons": [], "holds": []},
        "plan_hash": None,
        "plan_part": None,
        "held": None,
        "approves": None,
        "approved_hash": None,
        "cancel_requested": False,
        "lease_owner": None,
        "lease_until": None,
        "version": 3,
    } | fields
    return await Stored(api.mongo).put(Collections.SYNC_RUNS, document)


async def put_held(api: Api, customer: str, **fields: Any) -> dict[str, Any]:
    """A run whose removals wait for approval, with its plan: one change made, six flags held."""
    held = {"state": "held", "plan_hash": "a" * 32, "plan_part": "held", "held": {"flag": 6}, "reason": "guard"}
    run = await put_run(api, customer, **(held | fields))
    items = [
        {
            "_id": f"{run['_id']}:{seq}",
            "customer_id": run["customer_id"],
            "run_id": run["_id"],
            "seq": seq,
            "group": seq,
            "action": "flag" if seq else "update",
            "user_id": f"usr_{seq:032x}",
            "entry_id": None,
            "label": f"user{seq}@acme.com",
            "reason": "absent" if seq else None,
            "version": 1,
            "change": {"state": "flagged"} if seq else {"first_name": "Ann"},
            "before": {"state": "active"} if seq else {"first_name": "An"},
            "destructive": bool(seq),
            "state": "held" if seq else "applied",
            "delete_at": api.mongo.clock.now() + timedelta(days=30),
        }
        for seq in range(7)
    ]
    await api.mongo.collection(Collections.PLAN_ITEMS, PLATFORM).insert_many(items)
    return run


async def put_user(api: Api, customer: str, email: str, **fields: Any) -> dict[str, Any]:
    """A user from the directory."""
    customer_id = customer.rsplit("/", 1)[-1]
    base = {"source": "ldap", "external_id": new_id("evt"), "external_id_kind": "entryUUID"}
    return await Stored(api.mongo).user(email, customer_id=customer_id, verified=True, **(base | fields))


async def put_conflict(api: Api, customer: str, email: str, **fields: Any) -> dict[str, Any]:
    """A user whom a synchronisation flagged."""
    now = api.mongo.clock.now()
    base = {
        "state": "flagged", "flagged_at": now, "due_at": now + timedelta(days=7), "flag_reason": "absent",
        "directory_state": "absent",
    }  # fmt: skip
    return await put_user(api, customer, email, **(base | fields))


@asynccontextmanager
async def answering(api: Api, answer: Callable[[dict[str, Any]], dict[str, Any] | None]) -> AsyncIterator[list[dict]]:
    """What directory-sync does with questions: `answer(question)` or nothing; the questions that were put."""
    questions = api.mongo.collection(Collections.DIRECTORY_REQUESTS, PLATFORM)
    asked: list[dict] = []

    async def look() -> None:
        while True:
            for question in await questions.find({"state": "asked"}, limit=10):
                asked.append(question)
                found = answer(question)
                state = "running" if found is None else "answered"
                await questions.update_one({"_id": question["_id"]}, {"$set": {"state": state, "answer": found}})
            await asyncio.sleep(0.02)

    task = asyncio.create_task(look())
    try:
        yield asked
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def ending_approvals(api: Api, **ended: Any) -> AsyncIterator[None]:
    """What directory-sync does with approvals: they end with these fields."""
    runs = api.mongo.collection(Collections.SYNC_RUNS, PLATFORM)
    change = {"$set": {"phase": "ended", "finished_at": api.mongo.clock.now()} | ended, "$unset": {"is_open": ""}}

    async def work() -> None:
        while True:
            await runs.update_many({"kind": "approval", "state": "requested"}, change)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
