"""Stored users that are conflicts: read in pages or one after the other."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]
BY_HAND: Final = "by hand"
GONE: Final = ["disabled", "absent", "soft_deleted", "hard_deleted"]
# Whoever was flagged by hand is none, unless the directory has lost them too.
CONFLICT: Final[Document] = {
    "source": {"$in": ["ldap", "entra"]},
    "state": {"$in": ["flagged", "ignored", "deactivated"]},
    "$or": [{"flag_reason": {"$nin": [BY_HAND, None]}}, {"directory_state": {"$in": GONE}}],
}


class ConflictStore:
    """The conflicts of a customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._users = mongo.collection(Collections.USERS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._users

    async def known(self, user_ids: Sequence[str], session: Session) -> dict[str, Document]:
        """Those of the users that are there, by id."""
        found = await self._users.find({"_id": {"$in": list(user_ids)}}, limit=len(user_ids), session=session)
        return {user["_id"]: user for user in found}

    def each(self, query: Mapping[str, Any]) -> AsyncIterator[Document]:
        """All that match, by address."""
        return self._users.stream(query, sort=[("email_key", 1)], allow_disk_use=True)


def is_conflict(user: Document) -> bool:
    """Whether a stored user is one; says the same as `CONFLICT`."""
    if user["source"] not in CONFLICT["source"]["$in"] or user["state"] not in CONFLICT["state"]["$in"]:
        return False
    return user["flag_reason"] not in {BY_HAND, None} or user["directory_state"] in GONE
