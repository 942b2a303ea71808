"""Bodies of what agents are asked and send. What may be sent is all here, and `docs/agent.md` lists it (SPEC L4)."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, StringConstraints

from postern_api.agents.schemas import EXAMPLE_QUESTION, EXAMPLE_ROUND, EXAMPLE_RUN
from postern_api.http.schemas import EXAMPLE_TIME, HALVES, Input, Output
from postern_common.directory_documents import IdKind

EXAMPLE_ENTRY: Final = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
EXAMPLE_DN: Final = "cn=ann lee,ou=staff,dc=example,dc=com"
EXAMPLE_UPLOAD: Final = "9f2c4e6a8b0d1f3e5a7c9b2d4f6e8a0c"
MAX_ITEMS: Final = 20_000
MAX_ALIASES: Final = 10_000


def _plain(value: str) -> str:
    """No half of a surrogate pair and no NUL: neither can be stored or hashed."""
    if "\0" in value or HALVES.search(value) is not None:
        raise ValueError("this is no valid Unicode text")
    return value


def _few(value: object) -> object:
    """No more than there are names: each unknown one would be told."""
    if isinstance(value, dict) and len(value) > len(get_args(FieldName)):
        raise ValueError("there are more names than are known here")
    return value


Id = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_plain)]
Address = Annotated[str, StringConstraints(max_length=320), AfterValidator(_plain)]
Text = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_plain)]
Value = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_plain)]
Ref = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_plain)]
UploadId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
FieldName = Literal["first_name", "last_name", "home_phone", "mobile", "company", "department", "notes"]
Step = Literal["name", "connect", "tls", "bind", "base_dn", "filter", "permission", "agent"]


class WorkQuery(BaseModel):
    """What an agent tells when it asks for work."""

    model_config = ConfigDict(extra="forbid")

    wait: int = Field(25, ge=0, le=25, description="How long to wait for work, in seconds.", examples=[25])
    busy: list[Annotated[str, StringConstraints(max_length=100)]] = Field(
        default_factory=list, max_length=10, description="Runs and questions that it works on.", examples=[[]]
    )


class ReadSettings(Output):
    """How to read the directory. Host, port, account and password are the agent's own."""

    preset: str = Field(description="The kind of directory.", examples=["ad"])
    base_dn: str = Field(description="Where to read; empty for the agent's own.", examples=["DC=example,DC=com"])
    user_filter: str = Field(description="Which users.", examples=[""])
    group_filter: str = Field(description="Which groups.", examples=[""])
    attributes: dict[str, str] = Field(description="Attributes of other names.", examples=[{"mail": "mail"}])
    primary_from_upn: bool = Field(description="Whether the sign-in name stands in for an address.", examples=[False])
    page_size: int = Field(description="Entries in a page of the directory.", examples=[500])
    include_hidden: bool = Field(description="Whether hidden mailboxes take part.", examples=[True])
    include_public_folders: bool = Field(description="Whether public folders do.", examples=[False])


class WantedRound(Output):
    """A reading that a run waits for."""

    run_id: str = Field(description="The run.", examples=[EXAMPLE_RUN])
    settings: ReadSettings = Field(description="How to read.")


class PutQuestion(Output):
    """A question to the directory."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_QUESTION])
    kind: Literal["test", "browse", "filter"] = Field(description="What is asked.", examples=["test"])
    settings: ReadSettings = Field(description="How to read.")
    query: dict[str, Any] = Field(description="What is looked for.", examples=[{}])


class Work(Output):
    """What there is to do."""

    round: WantedRound | None = Field(description="A reading that a run waits for.")
    question: PutQuestion | None = Field(description="A question that somebody waits to have answered.")
    now: datetime = Field(description="The time here.", examples=[EXAMPLE_TIME])


class NewRound(Input):
    """The begin, or the resumption, of a reading."""

    run_id: Id = Field(description="The run that waits for it.", examples=[EXAMPLE_RUN])
    upload_id: UploadId = Field(
        description="Names what is sent: under another one all pages begin anew.", examples=[EXAMPLE_UPLOAD]
    )
    known: Annotated[list[Id], FailFast()] = Field(
        default_factory=list, max_length=4, description="Rounds whose state the agent still has.",
        examples=[[EXAMPLE_ROUND]],
    )  # fmt: skip


class Round(Output):
    """A reading under way."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ROUND])
    run_id: str = Field(description="The run that waits for it.", examples=[EXAMPLE_RUN])
    base: str | None = Field(
        description="The round whose state the differences are sent against; null for everything.", examples=[None]
    )
    next_page: int = Field(description="The page to send next.", examples=[0])


class SentEntry(Input):
    """An entry of the directory, with nothing but what synchronisation needs."""

    id: Id = Field(description="Its identity through renames.", examples=[EXAMPLE_ENTRY])
    id_kind: IdKind = Field(description="What the identity is.", examples=["objectGUID"])
    immutable_id: Text | None = Field(description="Its identity for another provider.", examples=[None])
    name: Ref = Field(description="Its DN.", examples=["CN=Ann Lee,OU=Staff,DC=example,DC=com"])
    kind: Literal["user", "shared", "resource", "list", "public_folder"] = Field(
        description="What it is.", examples=["user"]
    )
    is_disabled: bool = Field(strict=True, description="Whether the account is switched off.", examples=[False])
    primary: Text | None = Field(description="Its primary address.", examples=["ann.lee@example.com"])
    aliases: Annotated[list[Address], FailFast()] = Field(
        max_length=MAX_ALIASES, description="Its further addresses.", examples=[["ann@example.com"]]
    )
    fields: Annotated[dict[FieldName, Value], BeforeValidator(_few)] = Field(
        description="Names, phones and notes.", examples=[{"first_name": "Ann"}]
    )
    refs: Annotated[list[Ref], FailFast()] = Field(
        max_length=100, description="What groups name it by.", examples=[[EXAMPLE_DN]]
    )
    faults: Annotated[list[Text], FailFast()] = Field(
        max_length=100, description="Values that are no addresses.", examples=[[]]
    )
    excluded: Text | None = Field(description="Why it is left out.", examples=[None])
    removed: None = Field(None, description="Always null.", examples=[None])


class MemberChanges(Input):
    """What changed of a group's members; in a full round what there is."""

    group_id: Id = Field(description="The group's identity.", examples=[EXAMPLE_ENTRY])
    added: Annotated[list[Ref], FailFast()] = Field(
        default_factory=list, max_length=MAX_ITEMS, description="By name.", examples=[[EXAMPLE_DN]]
    )
    removed: Annotated[list[Ref], FailFast()] = Field(
        default_factory=list, max_length=MAX_ITEMS, description="By name.", examples=[[]]
    )


class SentPage(Input):
    """A part of what was read, or of what changed."""

    entries: Annotated[list[SentEntry], FailFast()] = Field(
        default_factory=list, max_length=MAX_ITEMS, description="Entries that are new or changed."
    )
    removed: Annotated[list[Id], FailFast()] = Field(
        default_factory=list, max_length=MAX_ITEMS, description="Entries that are gone.", examples=[[]]
    )
    members: Annotated[list[MemberChanges], FailFast()] = Field(
        default_factory=list, max_length=MAX_ITEMS, description="Members of groups."
    )


class PageQuery(BaseModel):
    """Which upload a page belongs to."""

    model_config = ConfigDict(extra="forbid")

    upload_id: UploadId = Field(description="The upload that the round was begun with.", examples=[EXAMPLE_UPLOAD])


class SentReport(Input):
    """How the reading went: whether it was whole is judged by it."""

    base_readable: bool = Field(description="Whether the base entry could be read.", examples=[True])
    problems: Annotated[list[Text], FailFast()] = Field(
        max_length=50, description="Why something may be missing.", examples=[[]]
    )
    referrals: int = Field(ge=0, le=10_000_000, description="Parts on other servers.", examples=[0])
    attribute_errors: int = Field(ge=0, le=10_000_000, description="Entries not read in full.", examples=[0])
    invocation_id: Text | None = Field(description="Names the domain controller.", examples=[None])
    usn: int | None = Field(ge=0, le=2**63 - 1, description="How far the domain controller is.", examples=[None])


class Statement(Input):
    """That everything was sent, and what it comes to."""

    upload_id: UploadId = Field(description="The upload.", examples=[EXAMPLE_UPLOAD])
    pages: int = Field(ge=0, le=10_000_000, description="How many pages were sent.", examples=[3])
    records: int = Field(
        ge=0, le=1_000_000_000, description="Entries and memberships in the whole directory.", examples=[1200]
    )
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="Over all of them, in any order.", examples=["0" * 64]
    )
    place: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{0,64}$")] = Field(
        description="Names the agent's own host, port, account and base DN.", examples=[""]
    )
    report: SentReport = Field(description="How the reading went.")


class Failure(Input):
    """Why the directory could not be read at all."""

    step: Step = Field(description="Where it failed.", examples=["bind"])
    message: Annotated[str, StringConstraints(min_length=1, max_length=300)] = Field(
        description="Why, in words.", examples=["The user name or the password is wrong."]
    )


class SentStep(Input):
    """A step of a test."""

    step: Text = Field(description="Which.", examples=["bind"])
    ok: bool = Field(description="Whether it worked.", examples=[True])
    detail: Text = Field(description="What was found.", examples=["Signed in."])
    milliseconds: int = Field(ge=0, le=3_600_000, description="How long it took.", examples=[12])


class SentFound(Input):
    """What a test counted."""

    users: int = Field(ge=0, le=1_000_000_000, description="Users.", examples=[250])
    groups: int = Field(ge=0, le=1_000_000_000, description="Groups.", examples=[20])


class SentCertificate(Input):
    """The certificate of the directory's server."""

    subject: Text | None = Field(None, description="Whose it is.", examples=["CN=dc1.example.com"])
    issuer: Text | None = Field(None, description="Who issued it.", examples=["CN=Example CA"])
    not_before: Text | None = Field(None, description="From when it holds.", examples=[EXAMPLE_TIME])
    not_after: Text | None = Field(None, description="How long it holds.", examples=[EXAMPLE_TIME])
    names: Annotated[list[Text], FailFast()] = Field(
        default_factory=list, max_length=100, description="Names in it.", examples=[["dc1"]]
    )
    fingerprint: Text | None = Field(None, description="Its SHA-256.", examples=["3f2a"])
    reason: Text | None = Field(None, description="Why it is not trusted.", examples=[None])


class SeenEntry(Input):
    """An entry that was looked for."""

    external_id: Id = Field(description="Its identity.", examples=[EXAMPLE_ENTRY])
    kind: Literal["user", "group", "alias"] = Field(description="What it is.", examples=["user"])
    name: Ref = Field(description="Its DN.", examples=["CN=Ann Lee,OU=Staff,DC=example,DC=com"])
    address: Text | None = Field(description="Its address.", examples=["ann.lee@example.com"])
    aliases: Annotated[list[Address], FailFast()] = Field(
        max_length=MAX_ALIASES, description="Further addresses.", examples=[["ann@example.com"]]
    )


class SentAnswer(Input):
    """The answer to a test or a look at entries."""

    ok: bool = Field(description="Whether the directory could be read.", examples=[True])
    steps: Annotated[list[SentStep], FailFast()] = Field(
        default_factory=list, max_length=50, description="The steps of a test."
    )
    found: SentFound | None = Field(None, description="What a test counted.")
    certificate: SentCertificate | None = Field(None, description="The server's certificate.")
    warnings: Annotated[list[Text], FailFast()] = Field(
        default_factory=list, max_length=50, description="What should be looked at.", examples=[[]]
    )
    entries: Annotated[list[SeenEntry], FailFast()] = Field(
        default_factory=list, max_length=1000, description="Entries that were found."
    )
    truncated: bool = Field(False, description="Whether there are more.", examples=[False])
