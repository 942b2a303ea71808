"""Bodies of groups and their members."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import (
    EXAMPLE_TIME,
    AddressText,
    Input,
    ListQuery,
    Output,
    Part,
    Patch,
    RequiredLine,
)
from postern_api.users.schemas import Aliases, Kind
from postern_common.documents import UserSource, UserState

EXAMPLE_ID: Final = "usr_0192f0c1a8b47c3e9d215b7f10aa3c68"
EXAMPLE_MEMBER: Final = "usr_0192f0c1a8b47c3e9d215b7f10aa3c57"
MAX_CHANGES: Final = 1000
MemberId = Annotated[str, Field(min_length=1, max_length=100)]
MemberIds = Annotated[list[MemberId], Field(max_length=MAX_CHANGES)]


class Group(Output):
    """A distribution list or group: it takes mail and costs no licence."""

    id: str = Field(description="Its id, which is a user's: lists have addresses as users do.", examples=[EXAMPLE_ID])
    email: str = Field(description="The primary address.", examples=["sales@example.com"])
    name: str = Field(description="What it is called.", examples=["Sales"])
    aliases: list[str] = Field(description="Secondary addresses.", examples=[["vertrieb@example.com"]])
    source: UserSource = Field(description="Where it came from.", examples=["ldap"])
    state: UserState = Field(description="As a user's.", examples=["active"])
    created_at: datetime = Field(description="When it was added.", examples=[EXAMPLE_TIME])
    updated_at: datetime = Field(description="When it was changed last.", examples=[EXAMPLE_TIME])


class GroupDetail(Group):
    """A group with how many are in it."""

    members: int = Field(description="Direct members, groups among them.", examples=[12])


class NewGroup(Input):
    """A list to be, kept by hand."""

    email: AddressText = Field(
        description="The primary address, in one of the customer's domains.", examples=["sales@example.com"]
    )
    name: RequiredLine = Field(description="What it is called.", examples=["Sales"])
    aliases: Aliases = Field([], description="Secondary addresses.", examples=[["vertrieb@example.com"]])
    members: MemberIds = Field([], description="Ids of users and groups in it.", examples=[[EXAMPLE_MEMBER]])


class GroupPatch(Patch):
    """What to change of a list that is kept by hand."""

    name: RequiredLine = Field("", description="What it is called.", examples=["Sales"])


class MemberChange(Input):
    """Who comes in and who goes out."""

    add: MemberIds = Field([], description="Users and groups to add.", examples=[[EXAMPLE_MEMBER]])
    remove: MemberIds = Field([], description="Members to remove.", examples=[[]])


class Member(Output):
    """Somebody, or a group, in a group."""

    id: str = Field(description="The user's or group's id.", examples=[EXAMPLE_MEMBER])
    email: str = Field(description="The primary address.", examples=["ann.lee@example.com"])
    name: str = Field(description="The name.", examples=["Ann Lee"])
    kind: Kind = Field(description="`list` is a group.", examples=["user"])
    state: UserState = Field(description="The user's state.", examples=["active"])
    source: str = Field(description="Where the membership came from.", examples=["ldap"])
    is_direct: bool = Field(description="Whether in the group itself, or in a group within it.", examples=[True])


class GroupList(ListQuery):
    """What the list of groups takes."""

    sort: Literal["email", "-email", "created_at", "-created_at"] = Field(
        "email", description="The order.", examples=["email"]
    )
    search: Part | None = Field(None, max_length=100, description="Part of the name or an address.", examples=["sales"])
    source: UserSource | None = Field(None, description="Only those from this source.", examples=["ldap"])
    state: UserState | None = Field(None, description="Only those in this state.", examples=["active"])


class MemberList(ListQuery):
    """What the list of members takes."""

    sort: Literal["id", "-id"] = Field("id", description="The order.", examples=["id"])
    nested: bool = Field(
        False, examples=[True],
        description="Everybody whom mail for the group reaches: members of groups within it too, and no groups.",
    )  # fmt: skip


class MembersChanged(Output):
    """What came of a change of members."""

    added: int = Field(description="Members that came in.", examples=[1])
    removed: int = Field(description="Members that went out.", examples=[0])


SORTS: Final = {"email": "email_key", "created_at": "_id"}


def name_of(document: Any) -> str:
    """The name of a user or group, for people."""
    return f"{document['first_name']} {document['last_name']}".strip()


def _fields(document: Any) -> dict[str, Any]:
    same = ("email", "source", "state", "created_at", "updated_at")
    return {
        "id": document["_id"],
        "name": name_of(document),
        "aliases": [alias["address"] for alias in document["aliases"]],
        **{field: document[field] for field in same},
    }


def to_group(document: Any) -> Group:
    """The answer for a stored list."""
    return Group(**_fields(document))


def to_detail(document: Any, members: int) -> GroupDetail:
    """The answer for one stored list."""
    return GroupDetail(members=members, **_fields(document))


def to_member(user: Any, source: str, *, is_direct: bool) -> Member:
    """The answer for a stored member."""
    same = {field: user[field] for field in ("email", "kind", "state")}
    return Member(id=user["_id"], name=name_of(user), source=source, is_direct=is_direct, **same)
