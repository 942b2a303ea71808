"""Conflicts (SPEC S13): users that synced before and are gone, and what an administrator decides on them.

A decision on many is one transaction: it is made for all of them or for none.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

from postern_api.directory.conflicts.schemas import (
    SORTS,
    Action,
    ConflictAction,
    ConflictFilter,
    ConflictList,
    ConflictResult,
    ConflictResults,
)
from postern_api.directory.conflicts.store import CONFLICT, ConflictStore, is_conflict
from postern_api.http.etag import stale
from postern_api.http.pagination import Order
from postern_api.http.problems import Problem
from postern_api.imports.export import MARK, csv_of
from postern_api.imports.rules.cells import guard
from postern_api.tenancy import Tenant
from postern_api.users.deletion import forget_user
from postern_api.users.store import UserStore, containing
from postern_common.documents import UserState
from postern_common.events import ConflictResolved
from postern_common.mongo import Session

Document = dict[str, Any]
REASON: Final = "conflict"
BATCH: Final = 200
COLUMNS: Final = (
    "email", "first_name", "last_name", "kind", "source", "state", "reason", "directory_state", "flagged_at", "due_at",
    "aliases",
)  # fmt: skip
_STATES: Final[dict[Action, UserState]] = {"ignore": UserState.IGNORED, "deactivate": UserState.DEACTIVATED}


class Conflicts:
    """The conflicts of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = ConflictStore(tenant.resources.mongo, tenant.scope)
        self._users = UserStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: ConflictList) -> tuple[list[Document], str | None]:
        """A page of them."""
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, _query(listing), listing, Order.of(listing.sort, SORTS))

    async def resolve(self, body: ConflictAction) -> ConflictResults:
        """Do with each user what was decided."""
        user_ids = list(dict.fromkeys(body.user_ids))
        now = self._resources.now()

        async def work(session: Session) -> list[ConflictResult]:
            users = await self._store.known(user_ids, session)
            self._check(user_ids, users)
            return [await self._one(users[user_id], body.action, now, session) for user_id in user_ids]

        return ConflictResults(action=body.action, results=await self._resources.transact(work))

    def _check(self, user_ids: list[str], users: dict[str, Document]) -> None:
        """Refuse the whole where one is not there, or is no conflict."""
        missing = [user_id for user_id in user_ids if user_id not in users]
        if missing:
            raise _refused("not-found", 404, "Some of these users are not there, or not yours to see.", missing)
        others = [user_id for user_id in user_ids if not is_conflict(users[user_id])]
        if others:
            raise _refused("wrong-state", 409, "Some of these users are no conflicts.", others)

    async def _one(self, user: Document, action: Action, now: datetime, session: Session) -> ConflictResult:
        user_id = user["_id"]
        event = ConflictResolved(customer_id=self._tenant.customer_id, user_id=user_id, action=action)
        if action == "delete":
            await forget_user(self._tenant, user, REASON, now, session)
            await self._resources.emit(session, event)
            return ConflictResult(user_id=user_id, state="deleted")
        state = _STATES[action]
        if user["state"] != state:
            changes = {"state": state.value, "due_at": None, "updated_at": now}
            if await self._users.change(user_id, user["version"], changes, session) is None:
                raise stale()
            if state is UserState.DEACTIVATED:
                await self._users.end_access(user_id, session)
            await self._resources.emit(session, event)
        return ConflictResult(user_id=user_id, state="ignored" if state is UserState.IGNORED else "deactivated")

    async def csv(self, wanted: ConflictFilter) -> AsyncIterator[bytes]:
        """The conflicts as a CSV file, piece by piece; no spreadsheet computes a cell."""
        batch: list[list[str]] = [list(COLUMNS)]
        mark = MARK.encode()
        async for user in self._store.each(_query(wanted)):
            batch.append([guard(cell) for cell in _cells(user)])
            if len(batch) >= BATCH:
                yield mark + csv_of(batch)
                batch, mark = [], b""
        yield mark + csv_of(batch)


def _query(wanted: ConflictFilter) -> Document:
    conditions: list[Document] = [CONFLICT]
    conditions += [{field: value} for field in ("state", "source") if (value := getattr(wanted, field)) is not None]
    if wanted.reason is not None:
        conditions.append({"flag_reason": wanted.reason})
    if wanted.search is not None:
        conditions.append(containing(wanted.search.strip()))
    return {"$and": conditions}


def _refused(code: str, status: int, message: str, user_ids: list[str]) -> Problem:
    results = [{"user_id": user_id, "code": code} for user_id in user_ids]
    return Problem(
        code, f"{message} Nothing was done.", status=status, pointer="/user_ids", members={"results": results}
    )


def _cells(user: Document) -> list[str]:
    plain = [str(user[name] or "") for name in ("email", "first_name", "last_name", "kind", "source", "state")]
    times = [user[name].strftime("%Y-%m-%dT%H:%M:%SZ") if user[name] else "" for name in ("flagged_at", "due_at")]
    aliases = " ".join(alias["address"] for alias in user["aliases"])
    return [*plain, user["flag_reason"] or "", user["directory_state"] or "", *times, aliases]
