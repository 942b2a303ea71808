"""Bodies of agents, as administrators see them."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import EXAMPLE_TIME, Input, ListQuery, Output, RequiredLine

EXAMPLE_ID: Final = "agt_0192f0c1a8b47c3e9d215b7f10aa3c71"
EXAMPLE_ROUND: Final = "rnd_0192f0c1a8b47c3e9d215b7f10aa3c72"
EXAMPLE_RUN: Final = "run_0192f0c1a8b47c3e9d215b7f10aa3c66"
EXAMPLE_QUESTION: Final = "req_0192f0c1a8b47c3e9d215b7f10aa3c73"


class NewAgent(Input):
    """An agent to be."""

    name: RequiredLine = Field(
        description="Where it runs, for people. No other agent of the customer has this name, in whatever case.",
        examples=["server room, Vienna"],
    )


class Agent(Output):
    """An agent that reads the customer's directory from inside."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    name: str = Field(description="Where it runs, for people.", examples=["server room, Vienna"])
    state: Literal["waiting", "expired", "enrolled"] = Field(
        description="`waiting` for its enrolment, `expired` where the code was not used in time, or `enrolled`.",
        examples=["enrolled"],
    )
    code_expires_at: datetime | None = Field(
        description="When the enrolment code ends, while it is waiting.", examples=[None]
    )
    enrolled_at: datetime | None = Field(description="When it was enrolled.", examples=[EXAMPLE_TIME])
    token_expires_at: datetime | None = Field(
        description="When its token ends, unless it is renewed: agents do that by themselves.", examples=[EXAMPLE_TIME]
    )
    last_seen_at: datetime | None = Field(
        description="When it called last, noted every 20 seconds at most: of several calls within that time the first.",
        examples=[EXAMPLE_TIME],
    )
    version: str | None = Field(description="The version that it runs.", examples=["0.1.0"])
    created_at: datetime = Field(description="When it was added.", examples=[EXAMPLE_TIME])
    created_by: str = Field(description="By whom.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"])


class CreatedAgent(Agent):
    """An agent with its enrolment code, which is shown this once."""

    code: str = Field(
        description="Give it to `postern-sync-agent enrol` within an hour. It works once and is not shown again.",
        examples=["penr_3vYb2qT1…"],
    )


class AgentList(ListQuery):
    """What the list of agents takes."""

    sort: Literal["created_at", "-created_at"] = Field(
        "-created_at", description="The order.", examples=["-created_at"]
    )


SORTS: Final = {"created_at": "_id"}


def to_agent(document: Any, now: datetime) -> Agent:
    """The answer for a stored agent."""
    names = ("name", "code_expires_at", "enrolled_at", "token_expires_at", "last_seen_at", "created_at", "created_by")
    return Agent(
        id=document["_id"],
        state=_state(document, now),
        version=document["last_version"],
        **{name: document[name] for name in names},
    )


def _state(document: Any, now: datetime) -> Literal["waiting", "expired", "enrolled"]:
    if document["enrolled_at"] is not None:
        return "enrolled"
    return "waiting" if document["code_expires_at"] > now else "expired"


class Enrolment(Input):
    """What an agent enrols with."""

    code: str = Field(min_length=1, max_length=200, description="The enrolment code.", examples=["penr_3vYb2qT1…"])
    version: RequiredLine = Field(max_length=50, description="The agent's version.", examples=["0.1.0"])


class AgentToken(Output):
    """What an agent calls with from now on."""

    agent_id: str = Field(description="The agent's id.", examples=[EXAMPLE_ID])
    token: str = Field(description="Send it as a bearer token. It is not shown again.", examples=["pagt_3vYb2qT1…"])
    expires_at: datetime = Field(description="When it ends, unless it is renewed before.", examples=[EXAMPLE_TIME])
