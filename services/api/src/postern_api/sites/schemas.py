"""Bodies of sites and of the test of a site."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from postern_api.http.schemas import EXAMPLE_TIME, Input, Line, ListQuery, Output, Patch, one_line

EXAMPLE_ID: Final = "sit_0192f0c1a8b47c3e9d215b7f10aa3c62"
EXAMPLE_SERVER: Final = "srv_0192f0c1a8b47c3e9d215b7f10aa3c64"
MAX_SERVERS: Final = 20
HostText = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(one_line)]
Tls = Literal["opportunistic", "required"]


class ServerInput(Input):
    """A mail server. With the `id` of one that is there it stays that one; without, its host and port tell."""

    id: str | None = Field(None, max_length=100, description="The id of a server that is there.", examples=[None])
    host: HostText = Field(description="An IP address (preferred) or a host name.", examples=["mail.example.com"])
    port: int = Field(25, ge=1, le=65535, strict=True, description="The port.", examples=[25])
    priority: int = Field(
        10, ge=0, le=65535, strict=True, description="Lowest first; equal ones in turn.", examples=[10]
    )
    tls: Tls = Field(
        "opportunistic",
        description="`opportunistic`: encrypted where the server offers it, whoever its certificate names. `required`: "
        "encrypted, with a certificate that an authority of the system signed and that names this host (for an IP "
        "address: the address); otherwise mail waits.",
        examples=["opportunistic"],
    )


Servers = Annotated[list[ServerInput], Field(min_length=1, max_length=MAX_SERVERS)]


class NewSite(Input):
    """A site to be, or one replaced as a whole."""

    description: Line = Field("", description="What it is.", examples=["Head office"])
    is_default: bool = Field(
        False,
        strict=True,
        description="Whether domains without a site use it. The first one does in any case.",
        examples=[True],
    )
    servers: Servers = Field(
        description="Where mail is delivered to.", examples=[[{"host": "mail.example.com", "port": 25, "priority": 10}]]
    )


class SitePatch(Patch):
    """What to change of a site; `servers` is replaced as a whole."""

    description: Line = Field("", description="What it is.", examples=["Head office"])
    is_default: bool = Field(
        False,
        strict=True,
        description="True makes it the default; make another one the default to end that.",
        examples=[True],
    )
    servers: Servers = Field(
        [],
        description="Where mail is delivered to.",
        examples=[[{"host": "mail.example.com", "port": 25, "priority": 10}]],
    )


class Server(Output):
    """A mail server of a site."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_SERVER])
    host: str = Field(description="An IP address or a host name.", examples=["192.0.2.25"])
    port: int = Field(description="The port.", examples=[25])
    priority: int = Field(description="Lowest first; equal ones in turn.", examples=[10])
    tls: Tls = Field(description="`required` never delivers in clear.", examples=["opportunistic"])


class Site(Output):
    """Where mail is delivered to."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    description: str = Field(description="What it is.", examples=["Head office"])
    is_default: bool = Field(description="Whether domains without a site use it.", examples=[True])
    servers: list[Server] = Field(description="Its servers, as they are tried.")
    created_at: datetime = Field(description="When it was added.", examples=[EXAMPLE_TIME])
    updated_at: datetime = Field(description="When it was changed last.", examples=[EXAMPLE_TIME])


class SiteList(ListQuery):
    """What the list of sites takes."""

    sort: Literal["created_at", "-created_at"] = Field("created_at", description="The order.", examples=["created_at"])


Result = Literal[
    "ok", "dns_error", "refused", "timeout", "banner_error", "tls_error", "relay_denied", "recipient_rejected"
]


class TestStep(Output):
    """A step of the dialogue with a server."""

    __test__ = False

    step: Literal["resolve", "connect", "banner", "ehlo", "starttls", "mail_from", "rcpt_to", "quit"] = Field(
        description="What was done.", examples=["banner"]
    )
    ok: bool = Field(description="Whether it worked.", examples=[True])
    detail: str = Field(description="The reply, or what went wrong.", examples=["220 mail.example.com ESMTP"])
    milliseconds: int = Field(description="How long it took.", examples=[12])


class TestTls(Output):
    """What STARTTLS gave."""

    __test__ = False

    version: str = Field(description="The protocol.", examples=["TLSv1.3"])
    cipher: str = Field(description="The cipher suite.", examples=["TLS_AES_256_GCM_SHA384"])
    verified: bool = Field(description="Whether the certificate is trusted and names the host.", examples=[True])
    problem: str | None = Field(description="What is wrong with the certificate.", examples=[None])


class TestRecipient(Output):
    """Whether the server takes mail for an address."""

    __test__ = False

    address: str = Field(description="The address that was tried.", examples=["postmaster@example.com"])
    accepted: bool = Field(description="Whether it was taken.", examples=[True])
    reply: str = Field(description="The server's reply.", examples=["250 2.1.5 Ok"])


class ServerTest(Output):
    """What the test of one server gave."""

    id: str = Field(description="The server's id.", examples=[EXAMPLE_SERVER])
    host: str = Field(description="Its host.", examples=["192.0.2.25"])
    port: int = Field(description="Its port.", examples=[25])
    address: str | None = Field(description="The address that was connected to.", examples=["192.0.2.25"])
    result: Result = Field(description="In short.", examples=["ok"])
    banner: str | None = Field(description="How the server greeted.", examples=["220 mail.example.com ESMTP"])
    tls: TestTls | None = Field(description="TLS, where the server offers it.")
    recipients: list[TestRecipient] = Field(description="Postmaster of each verified domain.")
    steps: list[TestStep] = Field(description="What was done, in order.")


class SiteTest(Output):
    """What the test of a site gave."""

    site_id: str = Field(description="The site.", examples=[EXAMPLE_ID])
    tested_at: datetime = Field(description="When.", examples=[EXAMPLE_TIME])
    ok: bool = Field(description="Whether every server is ready.", examples=[True])
    servers: list[ServerTest] = Field(description="Each server's result.")


SORTS: Final = {"created_at": "_id"}


def to_site(document: Any) -> Site:
    """The answer for a stored site."""
    fields = {name: document[name] for name in Site.model_fields if name not in {"id", "servers"}}
    servers = sorted(document["servers"], key=lambda server: server["priority"])
    return Site(id=document["_id"], servers=[Server(**server) for server in servers], **fields)
