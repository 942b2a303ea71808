"""Stored documents of agents that read a directory behind a firewall (SPEC L4): agents, their rounds, pages, questions.

A run of a directory that an agent reads asks for a round. The agent sends what it read in pages, which lie here until
the round is finished; the run folds them into the mirror and removes them. A round that breaks changes nothing.
"""

from datetime import datetime
from typing import Any, Literal, TypedDict


class AgentDocument(TypedDict):
    """An agent beside a customer's directory. Owner: api.

    `code_hash` until it is enrolled, then `token_hash`; `previous_hash` is good until the new token was used once.
    """

    _id: str
    customer_id: str
    name: str
    code_hash: str | None
    code_expires_at: datetime | None
    token_hash: str | None
    previous_hash: str | None
    token_expires_at: datetime | None
    enrolled_at: datetime | None
    last_seen_at: datetime | None
    last_version: str | None
    created_at: datetime
    created_by: str
    version: int


class AgentRoundDocument(TypedDict):
    """A reading that a run wants of an agent. Owner: directory-sync asks and removes, the api does the rest.

    asked -> open (an agent began) -> finished | failed. `settings` are those to read by, without any secret. `base` is
    the round that the mirror stands at, None where everything is wanted; `is_full` tells what the agent sends.
    `upload_id` names what is being uploaded: under another one the pages begin anew. `statement` says that it is all:
    report, count and digest of the whole directory as the agent sees it. Offered while `wanted_until` lies ahead.
    """

    _id: str
    customer_id: str
    run_id: str
    state: Literal["asked", "open", "finished", "failed"]
    base: str | None
    settings: dict[str, Any]
    agent_id: str | None
    upload_id: str | None
    is_full: bool | None
    pages: int
    octets: int
    entries: int
    statement: dict[str, Any] | None
    failure: dict[str, str] | None
    asked_at: datetime
    moved_at: datetime
    wanted_until: datetime
    delete_at: datetime


class AgentPageDocument(TypedDict):
    """A page of a round as it came: `data` is gzip of its JSON, `hash` the SHA-256 of the JSON. Owner: api puts it,
    directory-sync removes it. `_id` is `<round>:<number>`.
    """

    _id: str
    customer_id: str
    round_id: str
    number: int
    hash: str
    data: bytes
    delete_at: datetime


class AgentQuestionDocument(TypedDict):
    """A question to a directory that an agent reads. Owner: directory-sync asks, the api brings the agent's answer.

    `settings` hold no secret: the agent has its own.
    """

    _id: str
    customer_id: str
    kind: Literal["test", "browse", "filter"]
    settings: dict[str, Any]
    query: dict[str, Any]
    state: Literal["asked", "answered"]
    answer: dict[str, Any] | None
    created_at: datetime
    expires_at: datetime
