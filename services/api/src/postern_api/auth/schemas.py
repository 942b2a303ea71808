"""Bodies of sign-in."""

from datetime import datetime

from pydantic import Field, SecretStr

from postern_api.http.schemas import EXAMPLE_TIME, Input, Output


class SignIn(Input):
    """Name and password."""

    login: str = Field(max_length=254, description="The sign-in name.", examples=["admin@example.com"])
    password: SecretStr = Field(max_length=1024, description="The password.", examples=["correct horse battery staple"])
    otp: str | None = Field(
        None,
        max_length=20,
        description="One-time code, for accounts with a second factor; others ignore it.",
        examples=["123456"],
    )


class SignedIn(Output):
    """A session began."""

    token: str = Field(description="Send it as a bearer token.", examples=["pses_0192f0c1a8b47c3e9d215b7f10aa3c62_kq…"])
    expires_at: datetime = Field(description="When the session ends.", examples=[EXAMPLE_TIME])
