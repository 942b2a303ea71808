"""How runs end: the record, the customer, the directory and the event in one transaction (SPEC S17).

Where reading goes on is stored with the end of the run that stored what it stands for, never before. A preview writes
its own record alone.
"""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram

from postern_common import outbox
from postern_common.events import Event, SyncCompleted, SyncFailed, SyncHeld, SyncIncomplete
from postern_common.mongo import Mongo, Session
from postern_sync.agent_rounds.store import AgentStore
from postern_sync.plans.store import PLAN_OLD, PlanStore, WaitingPlans
from postern_sync.runs.documents import PLAN_STALE, SERVICE, ended
from postern_sync.runs.lease import Lease
from postern_sync.schedule.store import DirectoryStore

Document = dict[str, Any]
MAX_REASON: Final = 1000
LEFT_OVER: Final = "the run was interrupted for so long that what its plan takes away is left to the next one"
# Which count tells how often an action was done; the second one counts what it is about.
_COUNTS: Final = {
    "add": ("added", None),
    "restore": ("restored", None),
    "update": ("updated", None),
    "flag": ("flagged", None),
    "unflag": ("unflagged", None),
    "drop_aliases": (None, "aliases_dropped"),
    "add_members": (None, "members_added"),
    "remove_members": (None, "members_removed"),
}

log = structlog.get_logger(__name__)
_RUNS = Counter(
    "postern_sync_runs_total", "Runs that ended.", ["kind", "state"]
)  # kind: sync | preview | approval; state: completed | held | incomplete | failed | cancelled
_SECONDS = Histogram(
    "postern_sync_run_duration_seconds",
    "From the begin of a run to its end.",
    buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10_000),
)
_READ = Counter("postern_sync_entries_read_total", "Entries that runs read of directories.")


class Ending:
    """Ends runs."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._directories = DirectoryStore(mongo)

    async def previewed(self, lease: Lease, fields: Mapping[str, Any]) -> None:
        """End a preview, whose plan is stored."""

        async def work(_session: Session) -> Mapping[str, Any]:
            return fields

        await lease.end(work)
        self._told(lease, fields)

    async def fail(self, lease: Lease, reason: str, state: str = "failed") -> None:
        """End a run that did not do its work, or only a part of it."""
        now = await self._mongo.server_time()
        plan = PlanStore(self._mongo, lease.customer_id, lease.run_id)
        agents = AgentStore(self._mongo, lease.customer_id)
        fields = ended(state, now, reason[:MAX_REASON])

        async def work(session: Session) -> Mapping[str, Any]:
            await agents.withdraw(lease.run_id, session)
            if lease.run["kind"] == "preview":
                return fields
            event = SyncFailed(customer_id=lease.customer_id, run_id=lease.run_id, reason=reason[:MAX_REASON])
            await outbox.append(self._mongo, session, event, service=SERVICE)
            await self._directories.note_run(lease.customer_id, {"last_run_id": lease.run_id}, session)
            if reason == PLAN_STALE:
                await WaitingPlans(self._mongo, lease.customer_id).outdate(lease.run, session)
            if not lease.run["counts"]:
                return fields
            return {**fields, "counts": await _counts(lease, plan, session)}

        await lease.end(work)
        self._told(lease, fields)

    async def finish(self, lease: Lease) -> None:
        """End a run whose plan is applied, as far as it is not held."""
        now = await self._mongo.server_time()
        plan = PlanStore(self._mongo, lease.customer_id, lease.run_id)
        outcome = await self._outcome(lease, plan)
        reason = (outcome["reason"] or "")[:MAX_REASON] or None
        fields = ended(outcome["state"], now, reason)

        async def work(session: Session) -> Mapping[str, Any]:
            counts = await _counts(lease, plan, session)
            await self._note(lease, outcome, now, session)
            is_whole = outcome["state"] != "incomplete"
            await WaitingPlans(self._mongo, lease.customer_id).settle(lease.run, session, is_whole=is_whole)
            await outbox.append(self._mongo, session, _event(lease, fields, counts), service=SERVICE)
            return {**fields, "counts": counts}

        await lease.end(work)
        _READ.inc(lease.run["counts"].get("read", 0))
        self._told(lease, fields)

    async def _outcome(self, lease: Lease, plan: PlanStore) -> Document:
        """What was planned, less what the application did not bring about."""
        outcome: Document = dict(lease.run["outcome"])
        if await plan.leaves_flagged():
            # Deletions wait for a good run: one that left somebody flagged who is back is none.
            outcome |= {"last_good": None, "confirmed_at": None}
        if outcome["state"] == "completed" and await plan.has_error(PLAN_OLD):
            outcome |= {"last_good": None, "state": "incomplete", "reason": LEFT_OVER}
        return outcome

    async def _note(self, lease: Lease, outcome: Document, now: Any, session: Session) -> None:
        noted: Document = {"last_run_id": lease.run_id, "doubt": outcome["doubt"]}
        if outcome["last_good"] is not None:
            noted |= {"last_good": {**outcome["last_good"], "run_id": lease.run_id}, "asked_since": []}
        if outcome["confirmed_at"] is not None:
            noted["confirmed_at"] = outcome["confirmed_at"]
        if outcome["delta"] is not None:
            noted["delta"] = outcome["delta"]
        await self._directories.note_run(lease.customer_id, noted, session)
        if outcome["state"] != "incomplete":
            await self._directories.note_good_sync(lease.customer_id, now, session)

    @staticmethod
    def _told(lease: Lease, fields: Mapping[str, Any]) -> None:
        _RUNS.labels(kind=lease.run["kind"], state=fields["state"]).inc()
        if lease.run["started_at"] is not None:
            _SECONDS.observe((fields["finished_at"] - lease.run["started_at"]).total_seconds())
        log.info("run_ended", state=fields["state"], reason=fields["reason"])


async def _counts(lease: Lease, plan: PlanStore, session: Session) -> dict[str, int]:
    """The plan's counts, with what was done in place of what was meant to be."""
    counts: dict[str, int] = dict(lease.run["counts"])
    found = await plan.outcome(session)
    for action, (of_items, of_things) in _COUNTS.items():
        items, things = found.get((action, "applied"), (0, 0))
        if of_items:
            counts[of_items] = items
        if of_things:
            counts[of_things] = things
    for state in ("stale", "failed"):
        if number := sum(items for (_, at), (items, _) in found.items() if at == state):
            counts[state] = number
    return counts


def _event(lease: Lease, fields: Mapping[str, Any], counts: Mapping[str, int]) -> Event:
    names = ("read", "added", "updated", "flagged", "unflagged")
    told: Document = {"customer_id": lease.customer_id, "run_id": lease.run_id}
    told |= {name: counts.get(name, 0) for name in names}
    if fields["state"] == "held":
        return SyncHeld(**told, plan_hash=lease.run["plan_hash"], reason=fields["reason"])
    if fields["state"] == "incomplete":
        return SyncIncomplete(**told, reason=fields["reason"])
    return SyncCompleted(**told)
