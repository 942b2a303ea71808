"""Stored messages. They are the edge's; what operators decide is written into them, and the edges act by it."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, Mongo, Scoped, TenantScope

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
        "state",
        "due_at",
        "expires_at",
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

    async def change(self, message_id: str, condition: Document, change: Document) -> bool:
        """Change a message that fits the condition; `$[open]` are its recipients that are left to try."""
        options: dict[str, Any] = {}
        if any("$[open]" in name for name in change["$set"]):
            options["array_filters"] = [{"open.state": {"$in": ["accepted", "deferred"]}}]
        return bool(await self._messages.update_one({"_id": message_id, **condition}, change, **options))

    async def state_of(self, message_id: str) -> str | None:
        """Whether a message is queued, held or done; None where there is none."""
        found = await self._messages.find_one({"_id": message_id}, projection={"state": 1})
        return None if found is None else str(found["state"])


class QueueStore:
    """The queue of all customers."""

    def __init__(self, mongo: Mongo) -> None:
        self._messages = mongo.collection(Collections.MESSAGES, PLATFORM)

    def waiting(self, state: str) -> AsyncIterator[Document]:
        """Messages that wait in that state, those due first; of each what a summary needs."""
        shown = dict.fromkeys(("customer_id", "due_at", "received_at", "recipients.state", "recipients.next_hop"), 1)
        # `due_at` is named so that the index is used.
        query = {"state": state, "due_at": {"$gt": datetime.min.replace(tzinfo=UTC)}}
        return self._messages.stream(query, projection=shown, sort=[("due_at", 1)], batch_size=1000)


def containing(text: str) -> Document:
    """The condition of a field that has `text` in it, in any case."""
    return {"$regex": re.escape(text), "$options": "i"}


def exactly(*values: str) -> Document:
    """The condition of a field that is one of `values`."""
    return {"$in": list(values)}
