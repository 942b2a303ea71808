"""Bodies of the signed-in principal's own things."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.auth.roles import Permission, Principal, Role
from postern_api.http.schemas import EXAMPLE_TIME, ListQuery, Output

EXAMPLE_SESSION: Final = "ses_0192f0c1a8b47c3e9d215b7f10aa3c62"


class Me(Output):
    """Who is asking."""

    id: str = Field(description="The principal's id.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"])
    kind: Literal["administrator", "token"] = Field(
        description="A person signed in, or a token.", examples=["administrator"]
    )
    name: str = Field(description="The sign-in name, or the token's name.", examples=["admin@example.com"])
    role: Role = Field(description="The role.", examples=["platform_admin"])
    permissions: list[Permission] = Field(
        description="What the role and the scopes allow.", examples=[["domains:read"]]
    )
    partner_id: str | None = Field(description="The partner, for its administrators.", examples=[None])
    customer_ids: list[str] = Field(
        description="The customers that are administered; empty for partners and the platform, who list them.",
        examples=[["cus_0192f0c1a8b47c3e9d215b7f10aa3c55"]],
    )
    csrf_token: str | None = Field(description="What X-CSRF-Token must hold, for sessions.", examples=[None])
    expires_at: datetime = Field(description="When the session or token ends.", examples=[EXAMPLE_TIME])


class SessionInfo(Output):
    """A sign-in that lasts."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_SESSION])
    current: bool = Field(description="Whether this request came with it.", examples=[True])
    origin: str = Field(description="The address that it began from.", examples=["192.0.2.44"])
    user_agent: str = Field(description="What the browser calls itself.", examples=["Mozilla/5.0"])
    created_at: datetime = Field(description="When it began.", examples=[EXAMPLE_TIME])
    last_used_at: datetime = Field(description="When it was used last, to the minute.", examples=[EXAMPLE_TIME])
    expires_at: datetime = Field(description="When it ends.", examples=[EXAMPLE_TIME])


class SessionList(ListQuery):
    """What the list of sessions takes."""

    sort: Literal["created_at", "-created_at"] = Field(
        "-created_at", description="The order.", examples=["-created_at"]
    )


SESSION_SORTS: Final = {"created_at": "_id"}


def to_me(principal: Principal) -> Me:
    """The answer for a principal."""
    return Me(
        id=principal.id,
        kind="token" if principal.is_token else "administrator",
        name=principal.name,
        role=principal.role,
        permissions=sorted(principal.permissions),
        partner_id=principal.partner_id,
        customer_ids=sorted(principal.customer_ids),
        csrf_token=principal.csrf_token,
        expires_at=principal.expires_at,
    )


def to_session(document: Any, current: str | None) -> SessionInfo:
    """The answer for a stored session."""
    fields = {name: document[name] for name in SessionInfo.model_fields if name not in {"id", "current"}}
    return SessionInfo(id=document["_id"], current=document["_id"] == current, **fields)
