"""What counts against a customer's licences, counted."""

from postern_common.documents import Collections
from postern_common.mongo import Mongo, TenantScope


class LicenceStore:
    """The customer's mailboxes by kind."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._users = mongo.collection(Collections.USERS, scope)

    async def count(self, kind: str) -> int:
        """How many there are of a kind, in whatever state."""
        return await self._users.count({"kind": kind})
