"""Bodies of customers."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import EXAMPLE_TIME, ListQuery, Output, Patch, RequiredLine
from postern_common.documents import RecipientMode

EXAMPLE_ID: Final = "cus_0192f0c1a8b47c3e9d215b7f10aa3c55"
MAX_USERS: Final = 10_000_000
DELAYS: Final = (7, 14, 30)
Delay = Literal[7, 14, 30]


class RetentionPatch(Patch):
    """Days that things are kept; each within the platform's limits."""

    trace_days: int = Field(30, ge=1, le=3650, strict=True, description="The message trace.", examples=[30])
    quarantine_days: int = Field(30, ge=1, le=3650, strict=True, description="Quarantined messages.", examples=[30])
    audit_days: int = Field(365, ge=1, le=3650, strict=True, description="The audit log.", examples=[365])
    deleted_users_days: int = Field(
        30, ge=1, le=3650, strict=True, description="What is kept of a deleted user for restoring.", examples=[30]
    )


class CustomerPatch(Patch):
    """What to change of a customer."""

    name: RequiredLine = Field("", description="The organisation's name.", examples=["Example Ltd"])
    allowed_users: int | None = Field(
        None, ge=0, le=MAX_USERS, strict=True, examples=[250],
        description="Licences, for partners and the platform to set; null is no limit.",
    )  # fmt: skip
    recipient_mode: RecipientMode = Field(
        RecipientMode.ACCEPT_ALL,
        description="`accept_all` takes mail for every address in a verified domain. `known_only` takes it for known "
        "ones: of users in any state, lists, and what the directory has. `discover` is `accept_all` with SMTP "
        "discovery switched on: an address that the customer's own server took mail for becomes a user with the "
        "source `smtp`; where no licence is left it becomes known.",
        examples=["known_only"],
    )
    plus_addressing: bool = Field(True, strict=True, description="Whether ann+tag reaches ann.", examples=[True])
    deletion_delay_days: Delay | None = Field(
        None,
        description="Days from the flag to the deletion of a user; null is never. Holds for users flagged already too.",
        examples=[14],
    )
    max_message_bytes: int = Field(
        0, ge=65536, le=2**31 - 1, strict=True, description="Largest message taken, up to the platform's limit.",
        examples=[26214400],
    )  # fmt: skip
    retention: RetentionPatch = Field(
        RetentionPatch(), description="Days that things are kept.", examples=[{"trace_days": 14}]
    )


class NewCustomer(CustomerPatch):
    """A customer to be; what is not sent has its default."""

    name: RequiredLine = Field(description="The organisation's name.", examples=["Example Ltd"])
    partner_id: str | None = Field(
        None, pattern=r"^par_[0-9a-f]{32}$", description="The partner that administers it.", examples=[None]
    )
    allowed_users: int | None = Field(
        None, ge=0, le=MAX_USERS, strict=True, description="Licences; null is no limit.", examples=[250]
    )


class Retention(Output):
    """Days that things are kept."""

    trace_days: int = Field(description="The message trace.", examples=[30])
    quarantine_days: int = Field(description="Quarantined messages.", examples=[30])
    audit_days: int = Field(description="The audit log.", examples=[365])
    deleted_users_days: int = Field(description="What is kept of a deleted user for restoring.", examples=[30])


class Customer(Output):
    """A tenant."""

    id: str = Field(description="Its id: `customer_id` everywhere else.", examples=[EXAMPLE_ID])
    name: str = Field(description="The organisation's name.", examples=["Example Ltd"])
    partner_id: str | None = Field(description="The partner that administers it.", examples=[None])
    allowed_users: int | None = Field(description="Licences; null is no limit.", examples=[250])
    state: Literal["active", "suspended"] = Field(
        description="Suspended: mail flows, nothing can be changed.", examples=["active"]
    )
    recipient_mode: RecipientMode = Field(description="Which recipients are taken.", examples=["accept_all"])
    plus_addressing: bool = Field(description="Whether ann+tag reaches ann.", examples=[True])
    deletion_delay_days: int | None = Field(description="Days from flag to deletion; null is never.", examples=[7])
    max_message_bytes: int = Field(description="Largest message taken, in octets.", examples=[52428800])
    retention: Retention = Field(description="How long things are kept.")
    created_at: datetime = Field(description="When it was created.", examples=[EXAMPLE_TIME])
    updated_at: datetime = Field(description="When it was changed last.", examples=[EXAMPLE_TIME])


class CustomerList(ListQuery):
    """What the list of customers takes."""

    sort: Literal["name", "-name", "created_at", "-created_at"] = Field(
        "name", description="The order.", examples=["name"]
    )
    name: str | None = Field(None, max_length=200, description="The exact name.", examples=["Example Ltd"])


SORTS: Final = {"name": "name", "created_at": "_id"}


def to_customer(document: Any) -> Customer:
    """The answer for a stored customer."""
    fields = {name: document[name] for name in Customer.model_fields if name not in {"id", "retention"}}
    return Customer(id=document["_id"], retention=Retention(**document["retention"]), **fields)
