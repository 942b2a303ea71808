"""Stored documents of user imports (SPEC U3). Owner: api."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypedDict


class ImportState(StrEnum):
    """reviewing -> reviewed | failed; reviewed -> applying -> applied | stale | failed (all api).

    Stale: every row that was to change something had moved since the review; nothing was changed.
    """

    REVIEWING = "reviewing"
    REVIEWED = "reviewed"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"
    STALE = "stale"


class ImportCounts(TypedDict):
    """How many rows of each outcome the review found."""

    create: int
    update: int
    unchanged: int
    skipped: int
    error: int


class ImportResults(TypedDict):
    """What the application did: `left_out` are new users without a licence."""

    created: int
    updated: int
    stale: int
    left_out: int


class ImportDocument(TypedDict):
    """A file of users and what became of it.

    `is_open` and the lease are for the workers of the API's processes: a review begins anew, an application goes on
    behind `applied_through`, the number of the last row that is done with. `octets_read` and `rows` tell the progress.
    `attempts` counts how often a worker took it since it got on; one that ended in order does not count.
    """

    _id: str
    customer_id: str
    name: str
    kind: Literal["text", "workbook"]
    existing: Literal["update", "skip"]
    state: ImportState
    reason: str | None
    warnings: list[str]
    counts: ImportCounts
    results: ImportResults
    octets: int
    octets_read: int
    rows: int
    applied_through: int
    is_open: bool
    attempts: int
    lease_owner: str | None
    lease_until: datetime
    created_by: str
    applied_by: str | None
    created_at: datetime
    updated_at: datetime
    reviewed_at: datetime | None
    finished_at: datetime | None
    delete_at: datetime
    version: int


class ImportChunkDocument(TypedDict):
    """A piece of an uploaded file, kept until the review has read it."""

    _id: str
    customer_id: str
    import_id: str
    number: int
    data: bytes
    delete_at: datetime


class ImportErrorDocument(TypedDict):
    """What is wrong in one cell; the column is empty where it is about the whole row."""

    column: str
    message: str


class ImportRowDocument(TypedDict):
    """One row: what happens to it (`outcome`), and what happened (`result`).

    `user_id` of a new user is given by the review, so that applying a row twice makes one user. `user_version` is the
    version that an update was reviewed against. `before` and `after` hold the fields that change.
    """

    _id: str
    customer_id: str
    import_id: str
    number: int
    email: str
    outcome: Literal["create", "update", "unchanged", "skipped", "error"]
    user_id: str | None
    user_version: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    errors: list[ImportErrorDocument]
    reason: str | None
    result: Literal["applied", "stale", "left_out"] | None
    result_reason: str | None
    delete_at: datetime
