"""What operators do to messages that wait (SPEC R5): try again, hold, release, return to the sender, drop.

A message that an edge works on just now is not taken from it: what is decided is carried out once its attempt is over.
"""

from datetime import datetime
from typing import Any, Final

from postern_api.messages.schemas import Action, MessageAction, MessageResult, Outcome
from postern_api.messages.store import MessageStore
from postern_api.tenancy import Tenant
from postern_common.documents import MessageState

Document = dict[str, Any]
QUEUED, HELD = MessageState.QUEUED.value, MessageState.HELD.value
WORDS: Final[dict[Action, str]] = {
    "retry": "tried again at once",
    "hold": "held until it is released",
    "release": "released",
    "bounce": "to be returned to the sender",
    "drop": "to be dropped, and nobody told",
}


class QueueActions:
    """Actions on one customer's messages."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._store = MessageStore(tenant.resources.mongo, tenant.scope)

    async def act(self, body: MessageAction) -> list[MessageResult]:
        """Do it to each; one that cannot be changed leaves the others alone."""
        now = await self._tenant.resources.mongo.now()
        done: dict[str, Outcome] = {}
        for message_id in body.message_ids:
            if message_id not in done:
                done[message_id] = await self._act(body.action, message_id, now)
        return [MessageResult(message_id=message_id, outcome=done[message_id]) for message_id in body.message_ids]

    async def _act(self, action: Action, message_id: str, now: datetime) -> Outcome:
        condition, change = _change(action, self._tenant.principal.id, now)
        if await self._store.change(message_id, condition, change):
            return "done"
        found = await self._store.state_of(message_id)
        if found is None:
            return "not-found"
        return "under-way" if action == "retry" and found == QUEUED else "wrong-state"


def _change(action: Action, principal_id: str, now: datetime) -> tuple[Document, Document]:
    """Which state the message must be in, and what becomes of it."""
    step = {"at": now, "actor": principal_id, "what": action, "detail": WORDS[action]}
    values: Document = {"due_at": now, "recipients.$[open].next_attempt_at": now}
    condition: Document = {"state": {"$in": [QUEUED, HELD]}}
    match action:
        case "retry":
            condition = {"state": QUEUED, "$or": [{"lease_until": None}, {"lease_until": {"$lte": now}}]}
        case "hold":
            condition, values = {"state": QUEUED}, {"state": HELD}
        case "release":
            condition, values = {"state": HELD}, values | {"state": QUEUED}
        case "bounce" | "drop":
            values |= {"state": QUEUED, "order": {"action": action, "by": principal_id, "at": now}}
    return condition, {"$set": values, "$push": {"steps": step}, "$inc": {"version": 1}}
