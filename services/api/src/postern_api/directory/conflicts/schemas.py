"""Bodies of conflicts and of the decisions on them."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from postern_api.http.schemas import EXAMPLE_TIME, Input, ListQuery, Output, Part
from postern_api.users.schemas import EXAMPLE_ID, Kind
from postern_common.deletions import PauseReason
from postern_common.directory_documents import DirectoryState, Provider

MAX_USERS: Final = 500
State = Literal["flagged", "ignored", "deactivated"]
Action = Literal["delete", "ignore", "deactivate"]
Reason = Literal["absent", "disabled", "soft_deleted", "hard_deleted", "filter", "provider_switch"]
UserId = Annotated[str, Field(min_length=1, max_length=100)]


class Conflict(Output):
    """A user that synced before and is gone from the directory, or disabled there. Mail flows in every state."""

    user_id: str = Field(description="The user's id.", examples=[EXAMPLE_ID])
    email: str = Field(description="The primary address.", examples=["ann.lee@example.com"])
    first_name: str = Field(description="Given name.", examples=["Ann"])
    last_name: str = Field(description="Family name.", examples=["Lee"])
    kind: Kind = Field(description="Whose mailbox it is.", examples=["user"])
    source: Provider = Field(description="The directory that the user came from.", examples=["ldap"])
    state: State = Field(
        description="`flagged`: deleted when due. `ignored`: stays usable. `deactivated`: kept, without access.",
        examples=["flagged"],
    )
    reason: str | None = Field(description="Why.", examples=["absent"])
    directory_state: DirectoryState | None = Field(description="What the directory says.", examples=["absent"])
    flagged_at: datetime | None = Field(description="Since when.", examples=[EXAMPLE_TIME])
    due_at: datetime | None = Field(
        description="When the user is deleted; null while flagged is never.", examples=[EXAMPLE_TIME]
    )
    deletion_paused: PauseReason | None = Field(
        description="Why the user is not deleted even when due: see users.", examples=["directory_unread"]
    )


class ConflictFilter(BaseModel):
    """Which conflicts."""

    model_config = ConfigDict(extra="forbid")

    search: Part | None = Field(None, max_length=100, description="Part of a name or an address.", examples=["ann"])
    state: State | None = Field(None, description="Only those in this state.", examples=["flagged"])
    reason: Reason | None = Field(None, description="Only those for this reason.", examples=["absent"])
    source: Provider | None = Field(None, description="Only those from this directory.", examples=["ldap"])


Sort = Literal["email", "-email", "flagged_at", "-flagged_at", "due_at", "-due_at"]


class ConflictList(ListQuery, ConflictFilter):
    """What the list of conflicts takes."""

    sort: Sort = Field("email", description="The order.", examples=["due_at"])


class ConflictAction(Input):
    """What is decided on which users."""

    action: Action = Field(
        description="`delete` at once; `ignore`: never deleted, stays usable; `deactivate`: kept, without access.",
        examples=["ignore"],
    )
    user_ids: list[UserId] = Field(
        min_length=1, max_length=MAX_USERS, description="The users, all of them conflicts.", examples=[[EXAMPLE_ID]]
    )


class ConflictResult(Output):
    """What became of one user."""

    user_id: str = Field(description="The user.", examples=[EXAMPLE_ID])
    state: Literal["deleted", "ignored", "deactivated"] = Field(description="The state now.", examples=["ignored"])


class ConflictResults(Output):
    """What became of them: all is done, or the answer is an error and nothing is."""

    action: Action = Field(description="What was decided.", examples=["ignore"])
    results: list[ConflictResult] = Field(description="User by user, in the order of the request.")


SORTS: Final = {"email": "email_key", "flagged_at": "flagged_at", "due_at": "due_at"}


def to_conflict(document: Any, paused: PauseReason | None) -> Conflict:
    """The answer for a stored user."""
    special = {"user_id", "reason", "deletion_paused"}
    fields = {name: document[name] for name in Conflict.model_fields if name not in special}
    return Conflict(user_id=document["_id"], reason=document["flag_reason"], deletion_paused=paused, **fields)
