"""Bodies of users."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import EXAMPLE_TIME, AddressText, Input, Line, ListQuery, Notes, Output, Part, Patch, Time
from postern_common.deletions import PauseReason
from postern_common.documents import UserSource, UserState

EXAMPLE_ID: Final = "usr_0192f0c1a8b47c3e9d215b7f10aa3c57"
MAX_ALIASES: Final = 500
Kind = Literal["user", "shared", "resource", "list", "public_folder"]
Aliases = Annotated[list[AddressText], Field(max_length=MAX_ALIASES)]


class QuarantineSettings(Input):
    """A user's own settings of the quarantine."""

    digest: Literal["inherit", "never", "daily", "weekly"] = Field(
        "inherit", description="How often a list of what is kept is sent.", examples=["daily"]
    )
    release: Literal["inherit", "allowed", "forbidden"] = Field(
        "inherit", description="Whether the user may release what is kept.", examples=["allowed"]
    )


class FilteringSettings(Input):
    """A user's own settings of filtering."""

    spam: Literal["inherit", "off", "tag", "quarantine", "reject"] = Field(
        "inherit", description="What is done with spam.", examples=["quarantine"]
    )


class UserSettings(Input):
    """Settings of one user that differ from the customer's (SPEC U2)."""

    quarantine: QuarantineSettings = Field(
        QuarantineSettings(), description="The quarantine.", examples=[{"digest": "daily", "release": "inherit"}]
    )
    filtering: FilteringSettings = Field(
        FilteringSettings(), description="Filtering.", examples=[{"spam": "quarantine"}]
    )


class QuarantinePatch(Patch):
    """What to change of a user's quarantine settings."""

    digest: Literal["inherit", "never", "daily", "weekly"] = Field(
        "inherit", description="How often a list of what is kept is sent.", examples=["daily"]
    )
    release: Literal["inherit", "allowed", "forbidden"] = Field(
        "inherit", description="Whether the user may release what is kept.", examples=["allowed"]
    )


class FilteringPatch(Patch):
    """What to change of a user's filtering settings."""

    spam: Literal["inherit", "off", "tag", "quarantine", "reject"] = Field(
        "inherit", description="What is done with spam.", examples=["quarantine"]
    )


class UserSettingsPatch(Patch):
    """What to change of a user's settings."""

    quarantine: QuarantinePatch = Field(
        QuarantinePatch(), description="The quarantine.", examples=[{"digest": "daily"}]
    )
    filtering: FilteringPatch = Field(FilteringPatch(), description="Filtering.", examples=[{"spam": "quarantine"}])


class NewUser(Input):
    """A user to be, entered by hand."""

    email: AddressText = Field(
        description="The primary address, in one of the customer's domains.", examples=["ann.lee@example.com"]
    )
    first_name: Line = Field(description="Given name.", examples=["Ann"])
    last_name: Line = Field(description="Family name.", examples=["Lee"])
    aliases: Aliases = Field([], description="Secondary addresses.", examples=[["ann@example.com"]])
    home_phone: Line = Field("", description="Phone at home.", examples=["+44 20 7946 0000"])
    mobile: Line = Field("", description="Mobile phone.", examples=["+44 7700 900000"])
    company: Line = Field("", description="Company.", examples=["Example Ltd"])
    department: Line = Field("", description="Department.", examples=["Sales"])
    notes: Notes = Field("", description="Notes.", examples=["Back in May"])
    site_id: str | None = Field(None, max_length=100, description="Routing of their own: the site.", examples=[None])
    settings: UserSettings = Field(
        UserSettings(), description="Settings of their own.", examples=[{"filtering": {"spam": "tag"}}]
    )


class UserPatch(Patch):
    """What to change of a user; `aliases` is replaced as a whole."""

    email: AddressText = Field("", description="The primary address.", examples=["ann.lee@example.com"])
    first_name: Line = Field("", description="Given name.", examples=["Ann"])
    last_name: Line = Field("", description="Family name.", examples=["Lee"])
    aliases: Aliases = Field([], description="Secondary addresses.", examples=[["ann@example.com"]])
    home_phone: Line = Field("", description="Phone at home.", examples=["+44 20 7946 0000"])
    mobile: Line = Field("", description="Mobile phone.", examples=["+44 7700 900000"])
    company: Line = Field("", description="Company.", examples=["Example Ltd"])
    department: Line = Field("", description="Department.", examples=["Sales"])
    notes: Notes = Field("", description="Notes.", examples=["Back in May"])
    site_id: str | None = Field(None, max_length=100, description="Routing of their own: the site.", examples=[None])
    settings: UserSettingsPatch = Field(
        UserSettingsPatch(), description="Settings of their own.", examples=[{"filtering": {"spam": "tag"}}]
    )


class Flag(Input):
    """When a user is to be deleted."""

    due_at: Time | None = Field(
        None,
        description="Seven days from now or later; by the customer's delay where none is given.",
        examples=[EXAMPLE_TIME],
    )


class UserAddress(Output):
    """An address of a user."""

    address: str = Field(description="The address.", examples=["ann@example.com"])
    is_primary: bool = Field(description="Whether it is the primary one.", examples=[False])
    source: UserSource = Field(description="Where it came from.", examples=["manual"])


class User(Output):
    """A mailbox owner."""

    id: str = Field(description="Their id.", examples=[EXAMPLE_ID])
    email: str = Field(description="The primary address.", examples=["ann.lee@example.com"])
    first_name: str = Field(description="Given name.", examples=["Ann"])
    last_name: str = Field(description="Family name.", examples=["Lee"])
    aliases: list[str] = Field(description="Secondary addresses.", examples=[["ann@example.com"]])
    addresses: list[UserAddress] = Field(description="All addresses, the primary one first, with their sources.")
    kind: Kind = Field(description="Whose mailbox it is.", examples=["user"])
    source: UserSource = Field(description="Where the user came from.", examples=["manual"])
    state: UserState = Field(
        description="Flagged users will be deleted; mail flows in every state.", examples=["active"]
    )
    flagged_at: datetime | None = Field(description="When they were flagged for deletion.", examples=[None])
    due_at: datetime | None = Field(
        description="When they will be deleted; null while flagged is never.", examples=[None]
    )
    flag_reason: str | None = Field(description="Why they were flagged.", examples=[None])
    deletion_paused: PauseReason | None = Field(
        description="Why a flagged user is not deleted even when due. `frozen`: synchronisation was switched off with "
        "`freeze_on_disable`. `directory_unread`: the directory was not read well for twice its interval. "
        "`awaiting_run`: no run has found them missing again since.",
        examples=[None],
    )
    home_phone: str = Field(description="Phone at home.", examples=["+44 20 7946 0000"])
    mobile: str = Field(description="Mobile phone.", examples=["+44 7700 900000"])
    company: str = Field(description="Company.", examples=["Example Ltd"])
    department: str = Field(description="Department.", examples=["Sales"])
    notes: str = Field(description="Notes.", examples=["Back in May"])
    site_id: str | None = Field(description="Routing of their own: the site.", examples=[None])
    settings: UserSettings = Field(description="Settings of their own.")
    created_at: datetime = Field(description="When they were added.", examples=[EXAMPLE_TIME])
    updated_at: datetime = Field(description="When they were changed last.", examples=[EXAMPLE_TIME])


Sort = Literal["email", "-email", "first_name", "-first_name", "last_name", "-last_name", "created_at", "-created_at"]


class UserList(ListQuery):
    """What the list of users takes."""

    sort: Sort = Field("email", description="The order.", examples=["last_name"])
    search: Part | None = Field(None, max_length=100, description="Part of a name or an address.", examples=["ann"])
    state: UserState | None = Field(None, description="Only those in this state.", examples=["flagged"])
    source: UserSource | None = Field(None, description="Only those from this source.", examples=["manual"])
    kind: Kind | None = Field(None, description="Only mailboxes of this kind.", examples=["user"])
    domain: str | None = Field(
        None,
        max_length=300,
        description="Only those whose primary address is in this domain.",
        examples=["example.com"],
    )
    email: str | None = Field(
        None, max_length=500, description="The one with this address, primary or secondary.", examples=[None]
    )


SORTS: Final = {"email": "email_key", "first_name": "first_name", "last_name": "last_name", "created_at": "_id"}


def to_user(document: Any, paused: PauseReason | None) -> User:
    """The answer for a stored user."""
    special = {"id", "aliases", "addresses", "settings", "deletion_paused"}
    fields = {name: document[name] for name in User.model_fields if name not in special}
    primary = UserAddress(address=document["email"], is_primary=True, source=document["source"])
    others = [
        UserAddress(address=alias["address"], is_primary=False, source=alias["source"]) for alias in document["aliases"]
    ]
    return User(
        id=document["_id"],
        aliases=[alias.address for alias in others],
        addresses=[primary, *others],
        settings=UserSettings.model_validate(document["settings"]),
        deletion_paused=paused,
        **fields,
    )
