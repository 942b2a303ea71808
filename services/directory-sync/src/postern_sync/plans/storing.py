"""From a worked-out plan to a stored one: what is held, what an approval allows, what the run is told (SPEC S16).

Removals are held where the guard says so, and all of them where something else was asked of the directory than at the
last good run. An approval applies them only if the plan came out as the one that was approved; otherwise it applies
nothing at all.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from postern_common.directory_documents import QuestionDocument
from postern_common.mongo import Mongo, Session
from postern_sync.ending import Ending
from postern_sync.plans.store import PlanStore
from postern_sync.rules.guard import Verdict, judge
from postern_sync.rules.plan import PlanCounts, PlanItem, plan_hash
from postern_sync.rules.proof import Hold, Proof, changed_parts, doubt_of
from postern_sync.runs.documents import PLAN_STALE, ended
from postern_sync.runs.lease import Lease
from postern_sync.runs.store import RunStore
from postern_sync.schedule.store import DirectoryStore
from postern_sync.source import ReadReport
from postern_sync.workspace import Workspace

Document = dict[str, Any]
BATCH: Final = 1000
KEPT: Final = timedelta(days=30)
EXAMPLES: Final = 20
MAX_QUESTIONS: Final = 20
UNREADABLE: Final = "the directory could not be read whole, so nothing was applied: {}"
_HOLDS: Final = {
    "filter": "what is asked of the directory has changed since the last good run",
    "provider_switch": "the directory is another one than at the last good run",
    "first_run": "no run has read this directory whole before",
    "referrals": "more parts of the directory lie on other servers than at the last good run",
}
# Parts of the question that are no settings of the directory's.
_PARTS: Final = {"place": "what the agent reads by its own settings"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan that lies in the workspace, and what it stands on.

    `asked_at` is when the run began: it knows nothing of what was decided later.
    """

    report: ReadReport
    proof: Proof
    counts: PlanCounts
    directory: Document
    scope: str
    parts: dict[str, str]
    asked_at: datetime
    now: datetime

    @property
    def changed(self) -> tuple[str, ...]:
        """Which parts of the question have changed."""
        asked = self.directory.get("asked_since", ())
        return changed_parts(self.directory["last_good"], asked, self.scope, self.parts)


class Planner:
    """Stores the plan of one run."""

    def __init__(self, mongo: Mongo, lease: Lease, ending: Ending) -> None:
        self._lease = lease
        self._ending = ending
        self._runs = RunStore(mongo)
        self._directories = DirectoryStore(mongo)
        self._plan = PlanStore(mongo, lease.customer_id, lease.run_id)

    async def store(self, workspace: Workspace, planned: Planned) -> bool:
        """Store the plan; False where the run has ended with that and nothing is to be applied."""
        kind = self._lease.run["kind"]
        verdict = _verdict(planned)
        held = await asyncio.to_thread(_held, workspace, verdict)
        part = await self._part(held)
        name = await asyncio.to_thread(_name, workspace, verdict if part == "held" else None)
        fields = {**_described(workspace, planned, verdict, held), "plan_hash": name, "plan_part": part}
        if kind == "approval":
            if not planned.proof.is_complete:
                await self._ending.fail(self._lease, UNREADABLE.format("; ".join(planned.proof.reasons)))
                return False
            if name != self._lease.run["approved_hash"]:
                await self._ending.fail(self._lease, PLAN_STALE)
                return False
            verdict, held = Verdict(), Counter()
        total = await self._put(workspace, verdict, planned.now)
        fields |= {"held": dict(held) or None}
        if kind == "preview":
            await self._ending.previewed(self._lease, ended("completed", planned.now, **fields))
            return False
        fields |= {"phase": "applying", "outcome": _outcome(planned, verdict, held)}
        self._lease.note(items=total - sum(held.values()), applied=0)
        await self._lease.transact(lambda session: self._note_question(planned, session), fields)
        log.info("plan_stored", items=total, held=sum(held.values()), is_complete=planned.proof.is_complete)
        return True

    async def _note_question(self, planned: Planned, session: Session) -> None:
        """Before anything is applied: whatever becomes of the run, users may come from its question."""
        directory, last_good = planned.directory, planned.directory["last_good"]
        question: QuestionDocument = {
            "provider": directory["provider"], "scope_hash": planned.scope, "scope_parts": planned.parts,
        }  # fmt: skip
        asked = [one for one in directory.get("asked_since", ()) if not _is_same(one, question)]
        if last_good is not None and _is_same(last_good, question):
            return  # only what differs is held
        noted = {"asked_since": [*asked, question][-MAX_QUESTIONS:]}
        await self._directories.note_run(self._lease.customer_id, noted, session)

    async def _part(self, held: Counter[str]) -> str:
        run = self._lease.run
        if run["kind"] == "approval":
            approved = await self._runs.get(self._lease.customer_id, run["approves"])
            return str(approved["plan_part"]) if approved is not None else "all"
        return "held" if held and run["kind"] == "sync" else "all"

    async def _put(self, workspace: Workspace, verdict: Verdict, now: datetime) -> int:
        total = 0
        with closing(workspace.items()) as items:
            while batch := await asyncio.to_thread(lambda: list(itertools.islice(items, BATCH))):
                documents = [self._document(item, verdict, now) for item in batch]

                async def put(session: Session, documents: list[Document] = documents) -> None:
                    await self._plan.put(documents, session)

                await self._lease.transact(put, {"phase": "planning"})
                total += len(batch)
        return total

    def _document(self, item: PlanItem, verdict: Verdict, now: datetime) -> Document:
        return {
            "_id": f"{self._lease.run_id}:{item.seq}",
            "customer_id": self._lease.customer_id,
            "run_id": self._lease.run_id,
            "seq": item.seq,
            "group": item.group,
            "action": item.action,
            "user_id": item.user_id,
            "entry_id": item.entry_id,
            "label": item.label,
            "reason": item.reason,
            "version": item.version,
            "change": item.change,
            "before": item.before,
            "destructive": item.destructive,
            "state": "held" if verdict.holds(item) else "planned",
            "delete_at": now + KEPT,
        }


def _verdict(planned: Planned) -> Verdict:
    """The guard's, or everything where the question was another one."""
    verdict = judge(planned.counts, planned.directory["guard"])
    if not planned.proof.holds:
        return verdict
    words = tuple(_words(hold, planned) for hold in planned.proof.holds)
    return Verdict(flags=True, aliases=True, members=True, reasons=(*words, *verdict.reasons))


def _words(hold: Hold, planned: Planned) -> str:
    """Why it is held, with the settings that have changed by their names."""
    if hold != "filter" or not planned.changed:
        return _HOLDS[hold]
    return f"{_HOLDS[hold]}: {', '.join(_PARTS.get(name, name) for name in planned.changed)}"


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("provider", "scope_hash"))


def _held(workspace: Workspace, verdict: Verdict) -> Counter[str]:
    if not (verdict.flags or verdict.aliases or verdict.members):
        return Counter()
    return Counter(item.action for item in workspace.items() if verdict.holds(item))


def _name(workspace: Workspace, verdict: Verdict | None) -> str:
    return plan_hash(item for item in workspace.items() if verdict is None or verdict.holds(item))


def _described(workspace: Workspace, planned: Planned, verdict: Verdict, held: Counter[str]) -> Document:
    holds = [*planned.proof.holds, *(["guard"] if judge(planned.counts, planned.directory["guard"]).reasons else [])]
    return {
        "counts": asdict(planned.counts),
        "skipped": workspace.skip_summary(EXAMPLES),
        "proof": {
            "is_complete": planned.proof.is_complete,
            "reasons": list(planned.proof.reasons),
            "holds": holds if held else [],
            "words": list(verdict.reasons) if held else [],
            "changed": list(planned.changed) if held and "filter" in planned.proof.holds else [],
        },
    }


def _outcome(planned: Planned, verdict: Verdict, held: Counter[str]) -> Document:
    """How the run ends once the rest is applied, and what the directory's document gets then."""
    report, directory = planned.report, planned.directory
    outcome: Document = {
        "planned_at": planned.now,
        "last_good": None,
        "confirmed_at": None,
        "doubt": doubt_of(report, planned.proof),
        "delta": None,
    }
    if not planned.proof.is_complete:
        return outcome | {"state": "incomplete", "reason": "; ".join(planned.proof.reasons)}
    outcome["delta"] = report.delta
    # A plan that waits leaves the last good run what it was: else the next run would find nothing to hold. What was
    # doubted and is believed now stays believed for its approval. A hold of the guard's leaves no doubt about those who
    # were flagged before.
    if held:
        outcome["confirmed_at"] = None if planned.proof.holds else planned.asked_at
        return outcome | {"state": "held", "reason": "; ".join(verdict.reasons)}
    last_good = {
        "run_id": None,
        "at": planned.asked_at,
        "provider": directory["provider"],
        "scope_hash": planned.scope,
        "scope_parts": planned.parts,
        "users": report.users,
        "groups": report.groups,
        "referrals": report.referrals,
        "invocation_id": report.invocation_id,
        "usn": report.usn,
    }
    return outcome | {"state": "completed", "reason": None, "last_good": last_good, "doubt": None}
