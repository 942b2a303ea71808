"""Bodies of deleted users."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import EXAMPLE_TIME, ListQuery, Output
from postern_api.users.schemas import EXAMPLE_ID
from postern_common.documents import UserSource


class DeletedUser(Output):
    """A user who was deleted and can be restored until `purge_at`."""

    id: str = Field(description="Their id, which they keep.", examples=[EXAMPLE_ID])
    email: str = Field(description="The primary address that they had.", examples=["ann.lee@example.com"])
    aliases: list[str] = Field(description="The secondary addresses that they had.", examples=[["ann@example.com"]])
    first_name: str = Field(description="Given name.", examples=["Ann"])
    last_name: str = Field(description="Family name.", examples=["Lee"])
    source: UserSource = Field(description="Where the user had come from.", examples=["ldap"])
    deleted_at: datetime = Field(description="When they were deleted.", examples=[EXAMPLE_TIME])
    purge_at: datetime = Field(description="Until when they can be restored.", examples=[EXAMPLE_TIME])


class DeletedUserList(ListQuery):
    """What the list of deleted users takes."""

    sort: Literal["email", "-email", "deleted_at", "-deleted_at"] = Field(
        "-deleted_at", description="The order.", examples=["-deleted_at"]
    )


SORTS: Final = {"email": "email_key", "deleted_at": "deleted_at"}


def to_deleted(document: Any) -> DeletedUser:
    """The answer for a kept document."""
    user = document["user"]
    return DeletedUser(
        id=document["_id"],
        email=user["email"],
        aliases=[alias["address"] for alias in user["aliases"]],
        first_name=user["first_name"],
        last_name=user["last_name"],
        source=user["source"],
        deleted_at=document["deleted_at"],
        purge_at=document["purge_at"],
    )
