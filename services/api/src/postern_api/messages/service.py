"""The message trace (SPEC V4): what happened to a message, step by step."""

from datetime import datetime
from typing import Any

from postern_api.http.pagination import Order
from postern_api.http.problems import not_found
from postern_api.messages.schemas import SORTS, MessageList
from postern_api.messages.store import SHOWN, MessageStore, containing, exactly
from postern_api.tenancy import Tenant
from postern_common.addresses import parse_address
from postern_common.errors import Rejected

Document = dict[str, Any]


class Messages:
    """The messages of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._store = MessageStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: MessageList) -> tuple[list[Document], str | None]:
        """A page of the trace."""
        conditions = _conditions(listing)
        query: Document = {"$and": conditions} if conditions else {}
        pager = self._tenant.pager(listing)
        order = Order.of(listing.sort, SORTS)
        return await pager.read(self._store.collection, query, listing, order, projection=SHOWN)

    async def get(self, message_id: str) -> Document:
        """One message."""
        found = await self._store.get(message_id)
        if found is None:
            raise not_found()
        return found


def _conditions(listing: MessageList) -> list[Document]:
    found: list[Document] = []
    if listing.sender is not None:
        found.append({"sender_key": _address_condition(listing.sender)})
    if listing.recipient is not None:
        found.append({"recipient_keys": _address_condition(listing.recipient)})
    if listing.subject is not None:
        found.append({"subject": containing(listing.subject)})
    if listing.message_id is not None:
        bare = listing.message_id.strip().removeprefix("<").removesuffix(">")
        found.append({"message_id": exactly(bare, f"<{bare}>")})
    if listing.queue_id is not None:
        found.append({"queue_id": listing.queue_id.strip()})
    if listing.queue is not None:
        found.append({"state": listing.queue})
    if listing.next_hop is not None:
        found.append({"recipients.next_hop": listing.next_hop.strip()})
    if listing.state is not None:
        found.append({"recipients.state": listing.state.value})
    received = _between(listing.from_, listing.to)
    if received:
        found.append({"received_at": received})
    return found


def _between(start: datetime | None, end: datetime | None) -> Document:
    bounds = {"$gte": start, "$lt": end}
    return {operator: value for operator, value in bounds.items() if value is not None}


def _address_condition(text: str) -> Any:
    """A whole address is looked up by its key, anything else as a part of one."""
    try:
        return parse_address(text).key
    except Rejected:
        return containing(text.strip())
