"""Bodies of exceptions."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from postern_api.directory.questions.schemas import EXAMPLE_ENTRY
from postern_api.http.schemas import EXAMPLE_TIME, AddressText, Input, Line, ListQuery, Output, Part, Patch, one_line

EXAMPLE_ID: Final = "dsx_0192f0c1a8b47c3e9d215b7f10aa3c66"
Kind = Literal["user", "group", "alias"]
ExternalId = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), AfterValidator(one_line)
]


class NewException(Input):
    """Something to leave out. A user or group is named by its `external_id`, an alias by its `address`."""

    kind: Kind = Field(description="What it is. A group's members stay.", examples=["user"])
    external_id: ExternalId | None = Field(
        None, description="The directory's own id of a user or group, as `entries` shows it.", examples=[EXAMPLE_ENTRY]
    )
    address: AddressText | None = Field(None, description="For an alias: the address.", examples=[None])
    label: Line = Field(
        "",
        description="What people know it by; left out, the name of the user or group that is here.",
        examples=["Ann Lee"],
    )


class ExceptionPatch(Patch):
    """What to change of an exception."""

    external_id: ExternalId = Field("", description="Another user or group of the directory.", examples=[EXAMPLE_ENTRY])
    address: AddressText = Field("", description="Another alias.", examples=["ann@example.com"])
    label: Line = Field("", description="What people know it by.", examples=["Ann Lee"])


class DirectoryException(Output):
    """Something in the directory that the synchronisation leaves out."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    kind: Kind = Field(description="What it is. A group's members stay.", examples=["user"])
    external_id: str | None = Field(description="The directory's id of the user or group.", examples=[EXAMPLE_ENTRY])
    address: str | None = Field(description="For an alias: the address.", examples=[None])
    label: str = Field(description="What people know it by.", examples=["Ann Lee"])
    created_at: datetime = Field(description="When it was added.", examples=[EXAMPLE_TIME])
    created_by: str = Field(description="By whom.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"])


class ExceptionList(ListQuery):
    """What the list of exceptions takes."""

    sort: Literal["created_at", "-created_at"] = Field("created_at", description="The order.", examples=["created_at"])
    kind: Kind | None = Field(None, description="Only those of this kind.", examples=["alias"])
    search: Part | None = Field(None, max_length=100, description="Part of the label or address.", examples=["ann"])


SORTS: Final = {"created_at": "_id"}


def to_exception(document: Any) -> DirectoryException:
    """The answer for a stored exception."""
    same = ("kind", "external_id", "label", "created_at", "created_by")
    return DirectoryException(id=document["_id"], address=document["key"], **{field: document[field] for field in same})
