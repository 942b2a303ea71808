"""The queue as stored: claims by lease, results, and events not yet published (DESIGN 11, SPEC V3).

A message belongs to the process that holds its lease; `extend` keeps the leases of all that is under way in one
update, and what a dead process held is claimed once its lease has lapsed. Results are written in groups. Of a result
whose lease was lost, the deliveries are written all the same; the rest is found out again by whoever has the message
now. What an operator held meanwhile stays held. The events of a change are written with it into the message's document
and taken out again when the broker has confirmed them.
"""

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Counter
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from postern_common.documents import Collections, MessageState, RecipientState
from postern_common.errors import Temporary
from postern_common.mongo import PLATFORM, Document, Mongo, Session
from postern_common.mongo_errors import is_unavailable
from postern_edge.commit import GroupCommit
from postern_edge.messages import PUBLISH_GRACE
from postern_edge.rules.conclusion import OPEN_STATES, Change

SWEEP_BATCH: Final = 200
MERGE_ATTEMPTS: Final = 5

log = structlog.get_logger(__name__)
_CLAIMED: Final = Counter("postern_edge_queue_claimed_total", "Messages claimed from the queue.")
_LOST: Final = Counter("postern_edge_queue_leases_lost_total", "Results whose lease had passed to another edge.")


@dataclass(slots=True)
class Result:
    """What an attempt changes in one message's document."""

    message_id: str
    version: int
    changes: Sequence[Change]
    due_at: datetime | None
    steps: list[Document]
    events: list[Document] = field(default_factory=list)
    kept: timedelta = timedelta(days=30)  # how long the trace is kept once the message is done (SPEC R13)
    written: bool = True  # False once it turned out that nothing of it is news
    left_open: bool = False  # True once it turned out that another edge has something left to try: it needs the body


class DatabaseTime:
    """The database's time, asked for now and then and counted on in between (SPEC X4).

    It is counted on by the monotonic clock: a step of this machine's clock returns no message early.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._base: tuple[datetime, float] | None = None

    async def refresh(self) -> datetime:
        """Ask; raises `ClockSkew` when the two are too far apart to decide what is due."""
        now = await self._mongo.now()
        self._base = now - self._mongo.clock.offset, time.monotonic()
        return now

    def now(self) -> datetime:
        """The database's time as far as it is known."""
        if self._base is None:
            return self._mongo.clock.now()
        then, at = self._base
        return then + timedelta(seconds=time.monotonic() - at) + self._mongo.clock.offset


class Queue:
    """The message collection as the delivering half sees it. `owner` names this process in leases."""

    def __init__(self, mongo: Mongo, owner: str, lease: timedelta) -> None:
        self._mongo = mongo
        self._messages = mongo.collection(Collections.MESSAGES, PLATFORM)
        self.owner = owner
        self.lease = lease
        self.time = DatabaseTime(mongo)
        # Nobody waits at the other end, so one writer is enough, and its groups are twice as large.
        self.results: GroupCommit[Result] = GroupCommit("results", self._write_results, writers=1, max_items=200)

    async def claim(self, limit: int, under_way: Iterable[str]) -> list[Document]:
        """Take up to `limit` due messages that nobody holds; `under_way` are this process's own."""
        now = await self.time.refresh()
        free = {
            "state": MessageState.QUEUED.value,
            "due_at": {"$lte": now},
            "$or": [{"lease_until": None}, {"lease_until": {"$lte": now}}],
        }
        found = await self._messages.find(
            {**free, "_id": {"$nin": list(under_way)}}, limit=limit, sort=[("due_at", 1)], projection={"_id": 1}
        )
        if not found:
            return []
        wanted = {"_id": {"$in": [document["_id"] for document in found]}}
        until = now + self.lease
        await self._messages.update_many(
            {**wanted, **free}, {"$set": {"lease_owner": self.owner, "lease_until": until}}
        )
        mine = await self._messages.find(
            {**wanted, "lease_owner": self.owner, "state": "queued"}, limit=limit, projection={"content": 0}
        )
        _CLAIMED.inc(len(mine))
        return mine

    async def extend(self, message_ids: list[str]) -> set[str]:
        """Keep the leases of what is under way; the ids of those that are ours still. One that was lost stays lost."""
        ours = {"_id": {"$in": message_ids}, "lease_owner": self.owner}
        extended = await self._messages.update_many(ours, {"$set": {"lease_until": self.time.now() + self.lease}})
        if extended == len(message_ids):
            return set(message_ids)
        found = await self._messages.find(ours, limit=len(message_ids), projection={"_id": 1})
        return {document["_id"] for document in found}

    async def release(self, message_ids: list[str], due_at: datetime | None = None) -> None:
        """Give leases back, so that another process can go on at once, or at `due_at`."""
        change: Document = {"lease_owner": None, "lease_until": None}
        if due_at is not None:
            change["due_at"] = due_at
        await self._messages.update_many({"_id": {"$in": message_ids}, "lease_owner": self.owner}, {"$set": change})

    # -- results ------------------------------------------------------------------------------------------------------

    async def record(self, result: Result) -> None:
        """Write a result, together with others that come within the same moment."""
        await self.results.add(result)

    async def record_in(self, result: Result, session: Session) -> bool:
        """Write a result within a transaction; False when the lease was lost, and then nothing is written."""
        found = await self._look(result.message_id, session)
        if found is None or found["lease_owner"] != self.owner:
            return False
        query = {"_id": result.message_id, "version": found["version"]}
        change = self._merged(result, found, result.changes)
        return bool(await self._messages.update_one(query, change, session=session))

    async def _write_results(self, results: list[Result]) -> None:
        try:
            updates = [UpdateOne(*self._update(result)) for result in results]
            written = await self._mongo.direct(Collections.MESSAGES).bulk_write(updates, ordered=False)
        except PyMongoError as error:
            if is_unavailable(error):
                raise Temporary(f"queue: {type(error).__name__}") from error
            raise
        if written.matched_count < len(results):
            for result in results:
                await self.merge(result)

    def _update(self, result: Result) -> tuple[Document, Document]:
        query = {
            "_id": result.message_id,
            "version": result.version,
            "lease_owner": self.owner,
            "state": MessageState.QUEUED.value,
        }
        values: Document = {"lease_owner": None, "lease_until": None, **_recipient_values(result.changes)}
        return query, self._change(result, values, MessageState.QUEUED, result.due_at)

    def _change(self, result: Result, values: Document, before: str, due_at: datetime | None) -> Document:
        """The update; a message that is held stays so, and one that is done gets the time of its removal."""
        values |= {"state": str(before if due_at is not None else MessageState.DONE), "due_at": due_at}
        if due_at is None and before != MessageState.DONE:
            values["delete_at"] = self.time.now() + result.kept
        push: Document = {}
        if result.steps:
            push["steps"] = {"$each": result.steps}
        if result.events:
            push["pending_events"] = {"$each": result.events}
            values |= {"dispatch": "pending", "dispatch_after": self.time.now() + PUBLISH_GRACE}
        change: Document = {"$set": values, "$inc": {"version": 1}}
        if push:
            change["$push"] = push
        if due_at is None:
            change["$unset"] = {"content": ""}  # the body goes with the delivery (SPEC R13)
        return change

    async def merge(self, result: Result) -> None:
        """Write what of a result is not yet there, whoever holds the message now; deliveries are never taken back."""
        for _ in range(MERGE_ATTEMPTS):
            found = await self._look(result.message_id)
            changes = [] if found is None else self._news(result, found)
            if found is None or not changes:
                result.written = False
                result.left_open = found is not None and found["state"] != MessageState.DONE
                return
            if found["lease_owner"] != self.owner:
                _LOST.inc()
            change = self._merged(result, found, changes)
            if await self._messages.update_one({"_id": result.message_id, "version": found["version"]}, change):
                result.left_open = change["$set"]["state"] != MessageState.DONE
                return
        log.warning("result_not_merged", message_id=result.message_id)

    async def _look(self, message_id: str, session: Session | None = None) -> Document | None:
        fields = dict.fromkeys(("recipients", "version", "due_at", "lease_owner", "state", "order"), 1)
        return await self._messages.find_one({"_id": message_id}, projection=fields, session=session)

    def _news(self, result: Result, found: Document) -> list[Change]:
        """What of a result still says something.

        A delivery does unless it is written. Anything else does while the lease is ours: else whoever has the message
        now finds it out, and tells the sender.
        """
        is_ours = found["lease_owner"] == self.owner
        news = []
        for change in result.changes:
            before = found["recipients"][change.index]["state"]
            if change.state is RecipientState.DELIVERED:
                is_news = before != RecipientState.DELIVERED
            else:
                is_news = is_ours and before in OPEN_STATES
            if is_news:
                news.append(change)
        return news

    def _merged(self, result: Result, found: Document, changes: Sequence[Change]) -> Document:
        values = _recipient_values(changes)
        by_index = {change.index: change for change in changes}
        still_due = [
            by_index[index].next_attempt_at if index in by_index else recipient["next_attempt_at"] or found["due_at"]
            for index, recipient in enumerate(found["recipients"])
            if (by_index[index].state if index in by_index else recipient["state"]) in OPEN_STATES
        ]
        due = min((moment for moment in still_due if moment is not None), default=None)
        if due is not None and found.get("order") is not None:
            due = self.time.now()  # what an operator decided during the attempt is done at once
        if due is None or found["lease_owner"] == self.owner:
            values |= {"lease_owner": None, "lease_until": None}
        return self._change(result, values, found["state"], due)

    # -- events -------------------------------------------------------------------------------------------------------

    async def events_sent(self, message_ids: list[str], event_ids: list[str]) -> None:
        """Take confirmed events out of their messages, in one update."""
        left = {
            "$filter": {
                "input": "$pending_events",
                "as": "event",
                "cond": {"$not": [{"$in": ["$$event.id", event_ids]}]},
            }
        }
        is_empty = {"$eq": [{"$size": "$pending_events"}, 0]}
        await self._messages.update_many(
            {"_id": {"$in": message_ids}},
            [
                {"$set": {"pending_events": left}},
                {
                    "$set": {
                        "dispatch": {"$cond": [is_empty, None, "pending"]},
                        "dispatch_after": {"$cond": [is_empty, None, "$dispatch_after"]},
                    }
                },
            ],
        )

    async def unsent(self) -> list[tuple[str, list[Document]]]:
        """Messages whose events nobody has published in time, with the events; put off for other sweepers meanwhile."""
        now = self.time.now()
        waiting = {"dispatch": "pending", "dispatch_after": {"$lte": now}}
        found = await self._messages.find(
            waiting, limit=SWEEP_BATCH, sort=[("dispatch_after", 1)], projection={"_id": 1}
        )
        if not found:
            return []
        those = {"_id": {"$in": [document["_id"] for document in found]}}
        # The very millisecond marks them as ours, so that sweepers that look together do not all publish the same.
        stamp = now + PUBLISH_GRACE + timedelta(milliseconds=random.randrange(10_000))
        await self._messages.update_many({**waiting, **those}, {"$set": {"dispatch_after": stamp}})
        mine = await self._messages.find(
            {**those, "dispatch_after": stamp}, limit=SWEEP_BATCH, projection={"pending_events": 1}
        )
        return [(document["_id"], document["pending_events"]) for document in mine]

    async def depth(self) -> int:
        """How many messages wait, counted up to a bound; `due_at` is named so that the index is used."""
        return await self._messages.count(
            {"state": MessageState.QUEUED.value, "due_at": {"$gt": datetime.min.replace(tzinfo=UTC)}}, limit=100_000
        )


def _recipient_values(changes: Sequence[Change]) -> Document:
    """Recipients never change their place, so each is reached by its number."""
    values: Document = {}
    for change in changes:
        place = f"recipients.{change.index}"
        values[f"{place}.state"] = change.state.value
        values[f"{place}.reply"] = change.reply
        values[f"{place}.next_hop"] = change.next_hop
        values[f"{place}.attempts"] = change.attempts
        values[f"{place}.next_attempt_at"] = change.next_attempt_at
    return values
