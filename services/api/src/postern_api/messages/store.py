"""Stored messages of one customer, read only: they are the edge's."""

import re
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Scoped, TenantScope

Document = dict[str, Any]
# Bodies, peers and events on their way are not part of the trace.
SHOWN: Final = dict.fromkeys(
    (
        "queue_id",
        "message_id",
        "direction",
        "sender",
        "recipients",
        "subject",
        "size",
        "received_at",
        "steps",
        "version",
    ),
    1,
)


class MessageStore:
    """The messages of a customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._messages = mongo.collection(Collections.MESSAGES, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._messages

    async def get(self, message_id: str) -> Document | None:
        """One message."""
        return await self._messages.find_one({"_id": message_id}, projection=SHOWN)


def containing(text: str) -> Document:
    """The condition of a field that has `text` in it, in any case."""
    return {"$regex": re.escape(text), "$options": "i"}


def exactly(*values: str) -> Document:
    """The condition of a field that is one of `values`."""
    return {"$in": list(values)}
