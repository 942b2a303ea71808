"""Users as they are shown: what is stored, and why a deletion waits (SPEC S14, S16, docs/decisions/0009)."""

from collections.abc import Sequence
from typing import Any

from postern_api.tenancy import Tenant
from postern_api.users.schemas import User, to_user
from postern_api.users.store import UserStore
from postern_common.deletions import PauseReason, pause
from postern_common.documents import UserState

Document = dict[str, Any]


async def pauses(tenant: Tenant, documents: Sequence[Document]) -> list[PauseReason | None]:
    """For each user, why the deletion waits; the directory is looked at only where one is to be deleted."""
    waiting = [user["state"] == UserState.FLAGGED and user["due_at"] is not None for user in documents]
    if not any(waiting):
        return [None] * len(documents)
    directory = await UserStore(tenant.resources.mongo, tenant.scope).directory()
    now = tenant.resources.now()
    return [pause(user, directory, now) if waits else None for user, waits in zip(documents, waiting, strict=True)]


async def shown(tenant: Tenant, documents: Sequence[Document]) -> list[User]:
    """Users as the API answers with them."""
    found = await pauses(tenant, documents)
    return [to_user(document, paused) for document, paused in zip(documents, found, strict=True)]


async def shown_one(tenant: Tenant, document: Document) -> User:
    """One user as the API answers with it."""
    return (await shown(tenant, [document]))[0]
