"""Users going: flagged with a due time, unflagged, or removed at once (SPEC X1, X2, S9, T5)."""

from datetime import datetime, timedelta
from typing import Any, Final

from postern_api.customers.store import CustomerStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.problems import conflict, invalid, not_found
from postern_api.tenancy import Tenant
from postern_api.users.schemas import Flag
from postern_api.users.store import UserStore, deleted_document
from postern_common.deletions import BY_HAND
from postern_common.documents import UserState
from postern_common.events import UserDeleted, UserFlaggedForDeletion, UserUnflagged
from postern_common.mongo import Session

Document = dict[str, Any]
SOONEST: Final = timedelta(days=7)
# Asked for as "seven days from now" by a caller whose clock is a little behind.
TOLERANCE: Final = timedelta(seconds=60)


def due_time(wanted: datetime | None, delay_days: int | None, now: datetime) -> datetime | None:
    """When a user flagged now goes; None is never. Never sooner than seven days (SPEC S9)."""
    if wanted is None:
        return None if delay_days is None else now + timedelta(days=delay_days)
    if wanted < now + SOONEST - TOLERANCE:
        raise invalid("A deletion comes seven days after the flag at the soonest.", "/due_at", code="deletion-too-soon")
    return max(wanted, now + SOONEST)


async def forget_user(tenant: Tenant, user: Document, reason: str, now: datetime, session: Session) -> None:
    """Remove a user within a transaction, and keep what restoring needs."""
    store = UserStore(tenant.resources.mongo, tenant.scope)
    if not await store.delete(user, session):
        return
    kept = timedelta(days=tenant.customer["retention"]["deleted_users_days"])
    await store.keep_deleted(deleted_document(user, now, now + kept), session)
    await store.end_access(user["_id"], session)
    event = UserDeleted(customer_id=tenant.customer_id, user_id=user["_id"], reason=reason)
    await tenant.resources.emit(session, event)


class Deletions:
    """The deletion of a customer's users."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = UserStore(tenant.resources.mongo, tenant.scope)

    async def flag(self, user_id: str, body: Flag) -> Document:
        """Flag a user; again with another time moves the time."""
        now = await self._resources.database_now()

        async def work(session: Session) -> Document:
            # Locked, so that the delay is not changed in the same moment.
            customer = await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session)
            if customer is None:
                raise not_found()
            user = await self._get(user_id, session)
            due_at = due_time(body.due_at, customer["deletion_delay_days"], now)
            if user["state"] == UserState.FLAGGED and body.due_at is None:
                return user
            changes = {
                "state": UserState.FLAGGED.value,
                "flagged_at": user["flagged_at"] or now,
                "due_at": due_at,
                "flag_reason": BY_HAND,
                "due_by": "delay" if body.due_at is None else "date",
                "updated_at": now,
            }
            found = await self._store.change(user_id, user["version"], changes, session)
            if found is None:
                raise stale()
            await self._store.end_access(user_id, session)
            event = UserFlaggedForDeletion(
                customer_id=self._tenant.customer_id, user_id=user_id, due_at=due_at, reason=BY_HAND
            )
            await self._resources.emit(session, event)
            return found

        return await self._resources.transact(work)

    async def unflag(self, user_id: str) -> Document:
        """Call the deletion off; everything is as it was."""
        now = self._resources.now()

        async def work(session: Session) -> Document:
            user = await self._get(user_id, session)
            if user["state"] != UserState.FLAGGED:
                raise conflict("wrong-state", f"The user is {user['state']}, not flagged.")
            changes = {
                "state": UserState.ACTIVE.value,
                "flagged_at": None,
                "due_at": None,
                "flag_reason": None,
                "updated_at": now,
            }
            found = await self._store.change(user_id, user["version"], changes, session)
            if found is None:
                raise stale()
            event = UserUnflagged(customer_id=self._tenant.customer_id, user_id=user_id, reason=BY_HAND)
            await self._resources.emit(session, event)
            return found

        return await self._resources.transact(work)

    async def delete(self, user_id: str, condition: IfMatch) -> None:
        """Remove a user at once."""
        now = self._resources.now()

        async def work(session: Session) -> None:
            user = await self._get(user_id, session)
            condition.check(user["version"])
            await forget_user(self._tenant, user, BY_HAND, now, session)

        await self._resources.transact(work)

    async def _get(self, user_id: str, session: Session) -> Document:
        user = await self._store.get(user_id, session)
        if user is None:
            raise not_found()
        return user
