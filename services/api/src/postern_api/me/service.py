"""The sessions of whoever asks (SPEC T3): listed, looked at, ended."""

from typing import Any

from postern_api.auth.store import SessionStore
from postern_api.http.etag import IfMatch
from postern_api.http.pagination import Order
from postern_api.http.problems import not_found
from postern_api.me.schemas import SESSION_SORTS, SessionList
from postern_api.tenancy import Caller

Document = dict[str, Any]


class OwnSessions:
    """The principal's sessions that last; a token sees those of the person it belongs to."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._owner_id = caller.principal.owner_id
        self._store = SessionStore(caller.resources.mongo)

    async def page(self, listing: SessionList) -> tuple[list[Document], str | None]:
        """A page of them."""
        query = self._store.lasting(self._owner_id, self._caller.resources.now())
        pager = self._caller.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SESSION_SORTS))

    async def get(self, session_id: str) -> Document:
        """One of them."""
        found = await self._store.get(session_id, self._caller.resources.now())
        if found is None or found["principal_id"] != self._owner_id:
            raise not_found()
        return found

    async def end(self, session_id: str, condition: IfMatch) -> None:
        """End one."""
        condition.check((await self.get(session_id))["version"])
        if not await self._store.end(session_id, self._owner_id):
            raise not_found()
