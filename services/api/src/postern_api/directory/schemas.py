"""Bodies of synchronisation runs."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import EXAMPLE_TIME, ListQuery, Output

EXAMPLE_ID: Final = "run_0192f0c1a8b47c3e9d215b7f10aa3c59"
RunState = Literal["requested", "running", "completed", "held", "incomplete", "failed", "cancelled"]


class Run(Output):
    """One run of directory synchronisation."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    state: RunState = Field(description="How far it is.", examples=["completed"])
    requested_by: str = Field(
        description="Who asked for it, or `schedule`.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"]
    )
    reason: str | None = Field(description="Why it failed or was held.", examples=["no directory configured"])
    created_at: datetime = Field(description="When it was asked for.", examples=[EXAMPLE_TIME])
    finished_at: datetime | None = Field(description="When it ended.", examples=[EXAMPLE_TIME])


class RunList(ListQuery):
    """What the list of runs takes."""

    sort: Literal["created_at", "-created_at"] = Field(
        "-created_at", description="The order.", examples=["-created_at"]
    )
    state: RunState | None = Field(None, description="Only those in this state.", examples=["failed"])


SORTS: Final = {"created_at": "_id"}


def to_run(document: Any) -> Run:
    """The answer for a stored run."""
    fields = {name: document[name] for name in Run.model_fields if name != "id"}
    return Run(id=document["_id"], **fields)
