"""Bodies of a test of a directory's settings, and of a look at its entries."""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from postern_api.http.schemas import Output, Part

EntryKind = Literal["user", "group", "alias"]
EXAMPLE_ENTRY: Final = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"


class TestStep(Output):
    """A step on the way into the directory."""

    __test__ = False

    step: str = Field(
        description="`name`, `connect`, `tls`, `bind`, `base_dn`, `filter`, `token`, `permission` and the like.",
        examples=["bind"],
    )
    ok: bool = Field(description="Whether it worked.", examples=[True])
    detail: str = Field(description="What was found, or precisely what fails.", examples=["Signed in."])
    milliseconds: int = Field(description="How long it took.", examples=[12])


class Found(Output):
    """What the directory holds under these settings."""

    users: int = Field(description="Users.", examples=[250])
    groups: int = Field(description="Groups.", examples=[20])


class DirectoryTest(Output):
    """What the test gave."""

    ok: bool = Field(description="Whether the directory can be read with these settings.", examples=[True])
    steps: list[TestStep] = Field(description="What was done, in order; the last one fails where anything does.")
    found: Found | None = Field(description="What was found, where reading came so far.")
    certificate: dict[str, Any] | None = Field(
        description="The server's certificate, where there was one.",
        examples=[{"subject": "CN=dc1.example.com", "issuer": "CN=Example CA", "fingerprint": "3f2a"}],
    )
    warnings: list[str] = Field(
        description="What works and should be looked at all the same.",
        examples=[["The certificate ends in 9 days."]],
    )


class EntryQuery(BaseModel):
    """Which entries are looked for."""

    model_config = ConfigDict(extra="forbid")

    kind: EntryKind = Field("user", description="What is looked for.", examples=["user"])
    search: Part | None = Field(
        None, max_length=100, description="Part of a name or address; the first ones where there is none.",
        examples=["ann"],
    )  # fmt: skip
    limit: int = Field(50, ge=1, le=200, description="How many at most.", examples=[50])


class Entry(Output):
    """An entry of the directory, as exceptions name it."""

    external_id: str = Field(description="The directory's own id of it.", examples=[EXAMPLE_ENTRY])
    kind: EntryKind = Field(description="What it is.", examples=["user"])
    name: str = Field(description="What the directory calls it.", examples=["CN=Ann Lee,OU=Staff,DC=example,DC=com"])
    address: str | None = Field(description="Its primary address, or the alias.", examples=["ann.lee@example.com"])
    aliases: list[str] = Field(description="Its secondary addresses.", examples=[["ann@example.com"]])


class Entries(Output):
    """Entries that were found. There are no further pages: a narrower search finds what is missing."""

    items: list[Entry] = Field(description="The entries.")
    next_cursor: None = Field(None, description="Always null.", examples=[None])
    truncated: bool = Field(description="Whether there are more.", examples=[False])


def to_test(answer: Any) -> DirectoryTest:
    """The answer for a test's stored one."""
    found = answer.get("found")
    steps = [TestStep(**{name: step[name] for name in TestStep.model_fields}) for step in answer["steps"]]
    return DirectoryTest(
        ok=answer["ok"],
        steps=steps,
        found=None if found is None else Found(users=found["users"], groups=found["groups"]),
        certificate=answer.get("certificate"),
        warnings=answer.get("warnings", []),
    )


def to_entries(answer: Any) -> Entries:
    """The answer for a stored look at entries."""
    items = [
        Entry(
            external_id=entry["external_id"],
            kind=entry["kind"],
            name=entry["name"],
            address=entry.get("address"),
            aliases=entry.get("aliases", []),
        )
        for entry in answer["entries"]
    ]
    return Entries(items=items, truncated=answer["truncated"])
