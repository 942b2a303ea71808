"""Bodies of imports."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import EXAMPLE_TIME, Input, ListQuery, Output
from postern_api.users.schemas import EXAMPLE_ID as EXAMPLE_USER
from postern_common.documents import UserSource, UserState
from postern_common.import_documents import ImportState

EXAMPLE_ID: Final = "imp_0192f0c1a8b47c3e9d215b7f10aa3c5b"
EXAMPLE_TEXT: Final = "email,first_name,last_name\r\nann.lee@example.com,Ann,Lee\r\n"
MAX_TEXT: Final = 8 * 1024 * 1024
Existing = Literal["update", "skip"]
Outcome = Literal["create", "update", "unchanged", "skipped", "error"]
Result = Literal["applied", "stale", "left_out"]


class ImportOptions(Input):
    """What the address of an upload may say."""

    existing: Existing | None = Field(
        None, description="What happens to users who are there already; `update` by default.", examples=["skip"]
    )


class ImportText(Input):
    """Rows that were pasted."""

    text: str = Field(
        min_length=1,
        max_length=MAX_TEXT,
        description="The rows, as text with commas, semicolons or tabs.",
        examples=[EXAMPLE_TEXT],
    )
    existing: Existing = Field(
        "update", description="What happens to users who are there already.", examples=["update"]
    )


class ImportCounts(Output):
    """How many rows there are of each outcome."""

    create: int = Field(description="New users.", examples=[120])
    update: int = Field(description="Users that change.", examples=[7])
    unchanged: int = Field(description="Users that are as the file says.", examples=[301])
    skipped: int = Field(description="Rows that are left out on purpose.", examples=[2])
    error: int = Field(description="Rows with mistakes.", examples=[1])


class ImportResults(Output):
    """What was saved."""

    created: int = Field(description="Users that were added.", examples=[118])
    updated: int = Field(description="Users that were changed.", examples=[7])
    stale: int = Field(description="Rows whose users or addresses had moved since the review.", examples=[0])
    left_out: int = Field(description="New users for whom there was no licence.", examples=[2])


class Import(Output):
    """A file of users, its review, and what was saved of it."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    name: str = Field(description="The file's name; empty where text was sent.", examples=["users.csv"])
    kind: Literal["text", "workbook"] = Field(description="What was sent.", examples=["text"])
    existing: Existing = Field(description="What happens to users who are there already.", examples=["update"])
    state: ImportState = Field(
        description="Only a reviewed import can be applied. Stale: all that was to be saved had moved since.",
        examples=["reviewed"],
    )
    reason: str | None = Field(description="Why it failed.", examples=[None])
    warnings: list[str] = Field(
        description="What should be looked at before it is applied.",
        examples=[["Nothing is taken from columns of unknown name: password."]],
    )
    counts: ImportCounts = Field(description="The review's outcomes so far.")
    results: ImportResults = Field(description="What was saved so far.")
    rows: int = Field(description="Rows reviewed so far.", examples=[431])
    percent: int | None = Field(
        description="How much of the work at hand is done; null where that cannot be told.", examples=[100]
    )
    created_by: str = Field(description="Who sent it.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"])
    applied_by: str | None = Field(description="Who had it applied.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"])
    created_at: datetime = Field(description="When it was sent.", examples=[EXAMPLE_TIME])
    reviewed_at: datetime | None = Field(description="When its review was done.", examples=[EXAMPLE_TIME])
    finished_at: datetime | None = Field(description="When it was applied, or failed.", examples=[EXAMPLE_TIME])


class ImportList(ListQuery):
    """What the list of imports takes."""

    sort: Literal["created_at", "-created_at"] = Field(
        "-created_at", description="The order.", examples=["-created_at"]
    )
    state: ImportState | None = Field(None, description="Only those in this state.", examples=["reviewed"])


class ImportedValues(Output):
    """Fields of a user; those that a row leaves alone are null."""

    email: str | None = Field(None, description="The primary address.", examples=["ann.lee@example.com"])
    first_name: str | None = Field(None, description="Given name.", examples=["Ann"])
    last_name: str | None = Field(None, description="Family name.", examples=["Lee"])
    home_phone: str | None = Field(None, description="Phone at home.", examples=["+44 20 7946 0000"])
    mobile: str | None = Field(None, description="Mobile phone.", examples=["+44 7700 900000"])
    company: str | None = Field(None, description="Company.", examples=["Example Ltd"])
    department: str | None = Field(None, description="Department.", examples=["Sales"])
    notes: str | None = Field(None, description="Notes.", examples=["Back in May"])
    aliases: list[str] | None = Field(None, description="Secondary addresses.", examples=[["ann@example.com"]])
    site_id: str | None = Field(None, description="Routing of their own: the site.", examples=[None])


class CellError(Output):
    """A mistake in a row."""

    column: str = Field(
        description="The column's name as in the file; empty where it is about the whole row.", examples=["alias1"]
    )
    message: str = Field(description="What is wrong.", examples=["The address is in use by bob@example.com."])


class ImportRow(Output):
    """One row: what happens to it, and what happened."""

    number: int = Field(description="The row's number in the file, the header counted.", examples=[2])
    email: str = Field(description="The address as the row has it.", examples=["ann.lee@example.com"])
    outcome: Outcome = Field(description="What the review found.", examples=["update"])
    user_id: str | None = Field(description="The user, once there is one.", examples=[EXAMPLE_USER])
    before: ImportedValues | None = Field(description="For an update: what is there now of the fields that change.")
    after: ImportedValues | None = Field(description="What will be saved.")
    changed: list[str] = Field(description="The fields that `before` and `after` tell of.", examples=[["mobile"]])
    errors: list[CellError] = Field(description="What is wrong with the row.")
    reason: str | None = Field(description="Why the row is skipped.", examples=["The user is there already."])
    result: Result | None = Field(description="What happened when the import was applied.", examples=["applied"])
    result_reason: str | None = Field(description="Why nothing was saved.", examples=[None])


class ImportRowList(ListQuery):
    """What the list of rows takes."""

    sort: Literal["number", "-number"] = Field("number", description="The order.", examples=["number"])
    outcome: Outcome | None = Field(None, description="Only rows of this outcome.", examples=["error"])
    result: Result | None = Field(None, description="Only rows that this happened to.", examples=["stale"])


class ExportQuery(Input):
    """Which users an export holds, and how it is written."""

    format: Literal["csv", "xlsx"] = Field("csv", description="The kind of file.", examples=["xlsx"])
    state: UserState | None = Field(None, description="Only those in this state.", examples=["active"])
    source: UserSource | None = Field(None, description="Only those from this source.", examples=["csv"])


SORTS: Final = {"created_at": "_id"}
ROW_SORTS: Final = {"number": "number"}


def percent_of(document: Any) -> int | None:
    """How much of the review, or of the application, is done."""
    if document["state"] == ImportState.REVIEWING:
        octets = document["octets"] if document["kind"] == "text" else 0
        return min(99, 100 * document["octets_read"] // octets) if octets else None
    if document["state"] == ImportState.APPLYING:
        wanted = document["counts"]["create"] + document["counts"]["update"]
        return min(99, 100 * sum(document["results"].values()) // wanted) if wanted else 99
    return 100


def to_import(document: Any) -> Import:
    """The answer for a stored import."""
    special = {"id", "percent", "counts", "results"}
    fields = {name: document[name] for name in Import.model_fields if name not in special}
    return Import(
        id=document["_id"],
        percent=percent_of(document),
        counts=ImportCounts(**document["counts"]),
        results=ImportResults(**document["results"]),
        **fields,
    )


def to_row(document: Any) -> ImportRow:
    """The answer for a stored row."""
    is_there = document["outcome"] != "create" or document["result"] == "applied"
    return ImportRow(
        number=document["number"],
        email=document["email"],
        outcome=document["outcome"],
        user_id=document["user_id"] if is_there else None,
        before=_values(document["before"]),
        after=_values(document["after"]),
        changed=sorted(document["after"] or ()),
        errors=[CellError(**error) for error in document["errors"]],
        reason=document["reason"],
        result=document["result"],
        result_reason=document["result_reason"],
    )


def _values(fields: Any) -> ImportedValues | None:
    return None if fields is None else ImportedValues(**fields)
