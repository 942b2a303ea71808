"""Bodies of API tokens."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.auth.roles import Permission, Role
from postern_api.http.schemas import EXAMPLE_TIME, Input, ListQuery, Output, RequiredLine, Time

EXAMPLE_ID: Final = "tok_0192f0c1a8b47c3e9d215b7f10aa3c63"
_SCOPES = "Permissions that the token is limited to, beside its role; null is all of the role's."


class NewToken(Input):
    """A token to be."""

    name: RequiredLine = Field(description="What it is for.", examples=["nightly report"])
    role: Role | None = Field(None, description="Its role; yours where none is given.", examples=["customer_auditor"])
    scopes: list[Permission] | None = Field(
        None, min_length=1, max_length=50, description=_SCOPES, examples=[["domains:read"]]
    )
    expires_at: Time | None = Field(
        None, description="When it ends: within a year; in 90 days where none is given.", examples=[EXAMPLE_TIME]
    )


class NewCustomerToken(Input):
    """A customer's token to be."""

    name: RequiredLine = Field(description="What it is for.", examples=["nightly report"])
    role: Literal[Role.CUSTOMER_ADMIN, Role.CUSTOMER_AUDITOR] = Field(
        description="Its role.", examples=["customer_auditor"]
    )
    scopes: list[Permission] | None = Field(
        None, min_length=1, max_length=50, description=_SCOPES, examples=[["domains:read"]]
    )
    expires_at: Time | None = Field(
        None, description="When it ends: within a year; in 90 days where none is given.", examples=[EXAMPLE_TIME]
    )


class Token(Output):
    """A token, without its text."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    name: str = Field(description="What it is for.", examples=["nightly report"])
    role: Role = Field(description="Its role.", examples=["customer_auditor"])
    scopes: list[Permission] | None = Field(description=_SCOPES, examples=[["domains:read"]])
    created_at: datetime = Field(description="When it was made.", examples=[EXAMPLE_TIME])
    expires_at: datetime = Field(description="When it ends.", examples=[EXAMPLE_TIME])
    last_used_at: datetime | None = Field(description="When it was used last, to the minute.", examples=[EXAMPLE_TIME])


class CreatedToken(Token):
    """A token with its text, which is shown this once."""

    token: str = Field(description="Send it as a bearer token. It is not shown again.", examples=["ptok_3vYb2qT1…"])


class TokenList(ListQuery):
    """What a list of tokens takes."""

    sort: Literal["created_at", "-created_at"] = Field(
        "-created_at", description="The order.", examples=["-created_at"]
    )


SORTS: Final = {"created_at": "_id"}


def to_token(document: Any) -> Token:
    """The answer for a stored token."""
    fields = {name: document[name] for name in Token.model_fields if name != "id"}
    return Token(id=document["_id"], **fields)


def to_created(document: Any, text: str) -> CreatedToken:
    """The answer that shows the token's text."""
    return CreatedToken(token=text, **to_token(document).model_dump())
