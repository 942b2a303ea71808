"""Applies a run's stored plan: batches of whole groups, each in one transaction with the state of its items.

What a transaction writes is decided in it, so that a worker that dies between two of them neither loses nor repeats
anything: the next one goes on with the items that are still planned. Where an index refuses a batch, since somebody who
does not lock the customer was faster, it is halved until the group at fault stands alone.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import structlog
from prometheus_client import Counter

from postern_common import outbox
from postern_common.documents import Collections
from postern_common.mongo import Mongo, Session
from postern_sync.applying.deciding import ADDRESS_TAKEN, NEW, decide
from postern_sync.applying.store import ApplyStore, Clash
from postern_sync.applying.writes import Found, Writes, due_time
from postern_sync.people.loading import domain_of
from postern_sync.plans.store import PlanStore
from postern_sync.rules.entries import Mailbox
from postern_sync.runs.documents import SERVICE
from postern_sync.runs.lease import Lease

Document = dict[str, Any]
Group = list[Document]
# A member's row is a fraction of a user with addresses and an event.
MEMBERS_FOR_ONE: Final = 10
OLD: Final = timedelta(hours=1)
APPLYING: Final = {"phase": "applying"}
# Each transaction locks the customer. Without a gap between two, an administrator who adds a user waits for seconds.
BREATH_SECONDS: Final = 0.02

log = structlog.get_logger(__name__)
_APPLIED = Counter(
    "postern_sync_items_total", "Changes of plans that were settled.", ["state"]
)  # state: applied | stale | failed


class CustomerGone(Exception):
    """The customer was removed meanwhile."""


class Application:
    """The application of one run's plan."""

    def __init__(self, mongo: Mongo, lease: Lease, provider: str, *, batch: int) -> None:
        self._mongo = mongo
        self._lease = lease
        self._provider = provider
        self._batch = batch
        self._plan = PlanStore(mongo, lease.customer_id, lease.run_id)
        self._store = ApplyStore(mongo, lease.customer_id)
        self._done = 0

    async def run(self) -> None:
        """Apply what is left of the plan. Where that is old, what it takes away is left to the next run."""
        if await self._mongo.server_time() - self._lease.run["outcome"]["planned_at"] > OLD:
            await self._lease.transact(self._plan.leave_removals, APPLYING)
        self._done = await self._plan.count_done()
        async for batch in self._batches():
            await self._apply(batch)
            await asyncio.sleep(BREATH_SECONDS)

    async def _batches(self) -> AsyncIterator[list[Group]]:
        batch: list[Group] = []
        weight = 0
        async for group in self._plan.groups():
            # Members are looked up by what is stored: users of the same plan must be there before.
            if batch and _is_of_list(group) and not _is_of_list(batch[-1]):
                yield batch
                batch, weight = [], 0
            batch.append(group)
            weight += sum(1 + len(item["change"].get("members", ())) // MEMBERS_FOR_ONE for item in group)
            if weight >= self._batch:
                yield batch
                batch, weight = [], 0
        if batch:
            yield batch

    async def _apply(self, groups: list[Group]) -> None:
        try:
            writes = await self._lease.transact(lambda session: self._write(groups, session), APPLYING)
        except Clash:
            if len(groups) > 1:
                half = len(groups) // 2
                await self._apply(groups[:half])
                await self._apply(groups[half:])
                return
            log.info("items_failed", group=groups[0][0]["group"], error=ADDRESS_TAKEN)
            writes = Writes()
            for item in groups[0]:
                writes.settle(item, "failed", ADDRESS_TAKEN)
            await self._lease.transact(lambda session: self._note(writes, session), APPLYING)
        self._done += sum(len(group) for group in groups)
        self._lease.note(applied=self._done)
        for (state, _error), ids in writes.states.items():
            _APPLIED.labels(state=state).inc(len(ids))

    async def _write(self, groups: list[Group], session: Session) -> Writes:
        found = await self._find([item for group in groups for item in group], session)
        writes = decide(groups, found)
        await self._store.write(writes, session)
        await self._note(writes, session)
        if writes.events:
            await outbox.append_all(self._mongo, session, writes.events, service=SERVICE)
        return writes

    async def _note(self, writes: Writes, session: Session) -> None:
        for (state, error), ids in writes.states.items():
            await self._plan.set_state(ids, state, error, session)

    async def _find(self, items: list[Document], session: Session) -> Found:
        customer = await self._store.lock(session)
        if customer is None:
            raise CustomerGone
        now = await self._mongo.server_time()
        allowed = customer["allowed_users"]
        takes_licences = any(item["change"].get("kind") == "user" for item in items)
        free = allowed - await self._store.count_licensed(session) if allowed is not None and takes_licences else None
        keys = _gained_keys(items)
        of_groups = [item for item in items if "members" in item["change"]]
        named = {ref for item in of_groups for ref in (*item["change"]["members"], *_group_ref(item))}
        joined = await self._store.by_external_id(
            (ref.removeprefix(NEW) for ref in named if ref.startswith(NEW)), session
        )
        ids = {ref for ref in named if not ref.startswith(NEW)} | set(joined.values())
        group_ids = {item["user_id"] or joined.get(item["entry_id"], "") for item in of_groups}
        restored = {item["user_id"] for item in items if item["action"] == "restore"}
        deleted = await self._store.by_id(Collections.DELETED_USERS, restored, session)
        sites = {kept["user"]["site_id"] for kept in deleted.values()} - {None}
        return Found(
            customer_id=self._lease.customer_id,
            provider=self._provider,
            now=now,
            due_at=due_time(customer["deletion_delay_days"], now),
            free=free,
            users=await self._store.by_id(Collections.USERS, _user_ids(items), session),
            deleted=deleted,
            owners=await self._store.owners(keys, session),
            domains=await self._store.hold_domains({domain_of(key) for key in keys}, session),
            joined=joined,
            existing=await self._store.existing(ids, session),
            members=await self._store.members_of(group_ids, ids, session),
            sites=set(await self._store.by_id(Collections.SITES, sites, session)),
        )


_HERE: Final = frozenset({"restore", "update", "drop_aliases", "flag", "unflag"})


def _is_of_list(group: Group) -> bool:
    return "members" in group[0]["change"]


def _user_ids(items: list[Document]) -> set[str]:
    return {item["user_id"] for item in items if item["action"] in _HERE}


def _group_ref(item: Document) -> tuple[str, ...]:
    return (item["user_id"],) if item["user_id"] else (f"{NEW}{item['entry_id']}",)


def _gained_keys(items: list[Document]) -> set[str]:
    texts = [text for item in items for text in item["change"].get("gain", ())]
    texts += [item["change"]["email"] for item in items if "email" in item["change"]]
    return {mailbox.key for text in texts if (mailbox := Mailbox.parse(text)) is not None}
