"""Bodies of synchronisation runs and of their plans."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import EXAMPLE_TIME, Input, ListQuery, Output, Part
from postern_common.directory_documents import ItemAction, Provider, RunKind, RunPhase, RunState

EXAMPLE_ID: Final = "run_0192f0c1a8b47c3e9d215b7f10aa3c59"
EXAMPLE_HASH: Final = "9f86d081884c7d659a2feaa0c55ad015"
ItemState = Literal["planned", "held", "applied", "stale", "failed"]


class Progress(Output):
    """How far a run is."""

    what: str | None = Field(description="What is being read.", examples=["users"])
    read: int = Field(description="Entries read.", examples=[12000])
    per_second: float | None = Field(description="Entries read in a second.", examples=[850.0])
    total: int | None = Field(description="Entries in all, where that is known.", examples=[None])
    applied: int = Field(description="Changes made.", examples=[0])
    items: int | None = Field(description="Changes to make, once the plan is there.", examples=[None])


class Skipped(Output):
    """Entries or addresses that were left out for one reason."""

    count: int = Field(description="How many.", examples=[2])
    examples: list[dict[str, str]] = Field(
        description="The first of them: what the directory calls it, the address, and the rival where there is one.",
        examples=[[{"name": "cn=Ann,dc=example", "address": "ann@example.com", "other": "cn=Anna,dc=example"}]],
    )


class Run(Output):
    """One run of directory synchronisation."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    kind: RunKind = Field(
        description="`sync` reads and applies; `preview` stores a plan and changes nothing; `approval` reads again and "
        "applies what was approved.",
        examples=["sync"],
    )
    state: RunState = Field(
        description="`held`: removals wait for a decision; then the run is `approved` (by the run `approved_by`), "
        "`rejected`, or `superseded` by a later run. `incomplete`: the directory was not proven read whole, and nobody "
        "was flagged.",
        examples=["completed"],
    )
    phase: RunPhase = Field(description="What it is doing.", examples=["ended"])
    requested_by: str = Field(
        description="Who asked for it, or `schedule`.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"]
    )
    reason: str | None = Field(
        description="Why it failed, was held or is incomplete.", examples=["no directory configured"]
    )
    provider: Provider | None = Field(description="The directory that it read.", examples=["ldap"])
    created_at: datetime = Field(description="When it was asked for.", examples=[EXAMPLE_TIME])
    started_at: datetime | None = Field(description="When it began.", examples=[EXAMPLE_TIME])
    finished_at: datetime | None = Field(description="When it ended.", examples=[EXAMPLE_TIME])
    duration_seconds: float | None = Field(description="From begin to end.", examples=[12.5])
    progress: Progress = Field(description="How far it is, while it runs.")
    counts: dict[str, int] = Field(
        description="What it came to: `read`, `users`, `groups`, `added`, `restored`, `updated`, `unchanged`, "
        "`flagged`, `unflagged`, `skipped` and more.",
        examples=[{"read": 40, "added": 2, "updated": 1, "flagged": 0, "skipped": 2}],
    )
    skipped: dict[str, Skipped] = Field(description="What was left out, by reason.")
    proof: dict[str, Any] | None = Field(
        description="Whether the directory was proven read whole, with the reasons, and what holds the removals.",
        examples=[{"is_complete": True, "reasons": [], "holds": []}],
    )
    plan_hash: str | None = Field(
        description="Names the plan: what an approval is for. Null until there is one.", examples=[EXAMPLE_HASH]
    )
    plan_part: Literal["all", "held"] | None = Field(
        description="What `plan_hash` covers: all changes of a preview, or those that are held.", examples=["held"]
    )
    held: dict[str, int] | None = Field(description="What waits for a decision.", examples=[{"flag": 6}])
    approves: str | None = Field(description="For an approval: the run whose plan was approved.", examples=[None])
    approved_by: str | None = Field(
        description="The approval that applied this run's plan, or this preview's.", examples=[None]
    )
    superseded_by: str | None = Field(
        description="The later run that replaced this run's plan, or found it outdated.", examples=[None]
    )
    cancel_requested: bool = Field(description="Whether it was told to stop.", examples=[False])


class RunList(ListQuery):
    """What the list of runs takes."""

    sort: Literal["created_at", "-created_at"] = Field(
        "-created_at", description="The order.", examples=["-created_at"]
    )
    state: RunState | None = Field(None, description="Only those in this state.", examples=["failed"])
    kind: RunKind | None = Field(None, description="Only those of this kind.", examples=["preview"])


class Approval(Input):
    """Which plan is approved."""

    plan_hash: str = Field(
        min_length=1, max_length=128, description="The `plan_hash` of the run, as it was read.", examples=[EXAMPLE_HASH]
    )


class PlanItem(Output):
    """One change of a plan."""

    seq: int = Field(description="Its number within the plan.", examples=[1])
    group: int = Field(description="Changes of one group are made together, or none of them.", examples=[1])
    action: ItemAction = Field(description="What is done.", examples=["flag"])
    label: str = Field(description="The address, or the name, that it is about.", examples=["ann.lee@example.com"])
    user_id: str | None = Field(
        description="The user, where there is one already.", examples=["usr_0192f0c1a8b47c3e9d215b7f10aa3c57"]
    )
    entry_id: str | None = Field(
        description="The directory's object.", examples=["6f9619ff-8b86-d011-b42d-00cf4fc964ff"]
    )
    reason: str | None = Field(description="Why.", examples=["absent"])
    destructive: bool = Field(description="Whether it takes something away.", examples=[True])
    state: ItemState = Field(
        description="`held` waits for a decision; `stale` was not made, as the user had changed meanwhile.",
        examples=["held"],
    )
    error: str | None = Field(description="Why it failed.", examples=[None])
    before: dict[str, Any] = Field(description="What stands there, field by field.", examples=[{"state": "active"}])
    change: dict[str, Any] = Field(description="What is set, field by field.", examples=[{"state": "flagged"}])


class PlanList(ListQuery):
    """What a plan takes."""

    sort: Literal["seq", "-seq"] = Field("seq", description="The order.", examples=["seq"])
    action: ItemAction | None = Field(None, description="Only these changes.", examples=["flag"])
    state: ItemState | None = Field(None, description="Only those in this state.", examples=["held"])
    search: Part | None = Field(None, max_length=100, description="Part of an address or name.", examples=["ann"])


SORTS: Final = {"created_at": "_id"}
PLAN_SORTS: Final = {"seq": "seq"}
_SAME: Final = ("state", "requested_by", "reason", "created_at", "finished_at")


def to_run(document: Any) -> Run:
    """The answer for a stored run."""
    started, finished, progress = document["started_at"], document["finished_at"], document["progress"]
    plain = ("provider", "counts", "proof", "plan_hash", "plan_part", "held", "approves", "cancel_requested")
    return Run(
        id=document["_id"],
        kind=document["kind"],
        phase=document["phase"],
        approved_by=document.get("approved_by"),
        superseded_by=document.get("superseded_by"),
        started_at=started,
        duration_seconds=(finished - started).total_seconds() if started and finished else None,
        progress=Progress(
            what=progress.get("what"),
            read=progress.get("read", 0),
            per_second=progress.get("per_second"),
            total=progress.get("total"),
            applied=progress.get("applied", 0),
            items=progress.get("items"),
        ),
        skipped={reason: Skipped(**found) for reason, found in document["skipped"].items()},
        **{name: document[name] for name in (*_SAME, *plain)},
    )


def to_plan_item(document: Any) -> PlanItem:
    """The answer for a stored change of a plan."""
    fields = {name: document[name] for name in PlanItem.model_fields if name != "error"}
    return PlanItem(error=document.get("error"), **fields)
