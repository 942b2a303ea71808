"""Puts what is stored of a customer into a run's scratch file, beside what was read of the directory."""

import asyncio
import itertools
from contextlib import closing
from datetime import datetime
from typing import Any

from postern_sync.people.store import BATCH, PeopleStore
from postern_sync.rules.entries import FIELDS, Mailbox, StoredAlias, StoredDeleted, StoredUser
from postern_sync.runs.lease import Lease
from postern_sync.workspace import Workspace

Document = dict[str, Any]


async def load(people: PeopleStore, workspace: Workspace, lease: Lease, now: datetime) -> None:
    """Load users, memberships, deleted users and known addresses, then whose the claimed addresses are elsewhere."""
    async for users in people.users():
        lease.check()
        await asyncio.to_thread(workspace.put_stored, [stored_user(user) for user in users])
    async for members in people.members():
        rows = [(member["group_id"], member["member_id"], member["source"]) for member in members]
        await asyncio.to_thread(workspace.put_stored_members, rows)
    async for deleted in people.deleted(now):
        await asyncio.to_thread(workspace.put_deleted, [_deleted(found) for found in deleted])
    async for known in people.known():
        await asyncio.to_thread(workspace.put_known, [(found["key"], found["reason"]) for found in known])
    lease.check()
    with closing(workspace.wanted_keys()) as wanted:
        while keys := await asyncio.to_thread(lambda: list(itertools.islice(wanted, BATCH))):
            lease.check()
            if taken := await people.taken_elsewhere(keys):
                await asyncio.to_thread(workspace.put_taken, taken)


def stored_user(user: Document) -> StoredUser:
    """A user's document as rules see it."""
    return StoredUser(
        id=user["_id"],
        version=user["version"],
        source=user["source"],
        state=user["state"],
        flag_reason=user["flag_reason"],
        kind=user["kind"],
        external_id=user["external_id"],
        immutable_id=user["immutable_id"],
        directory_state=user["directory_state"],
        absent_runs=user.get("absent_runs", 0),
        primary=mailbox(user["email"], user["email_key"]),
        aliases=tuple(
            StoredAlias(mailbox(alias["address"], alias["key"]), alias["source"]) for alias in user["aliases"]
        ),
        fields={name: user.get(name, "") for name in FIELDS},
    )


def mailbox(address: str, key: str) -> Mailbox:
    """A stored address, which was parsed when it was stored."""
    return Mailbox(address, key, domain_of(key))


def domain_of(key: str) -> str:
    """The domain of an address's key."""
    return key.rpartition("@")[2]


def _deleted(found: Document) -> StoredDeleted:
    user = found["user"]
    return StoredDeleted(found["_id"], user["kind"], user.get("external_id"), found["immutable_id"], found["email_key"])
