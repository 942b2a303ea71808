"""Bodies of the steps."""

from pydantic import Field

from postern_api.http.schemas import Output


class Copied(Output):
    """A value that is shown there and entered here."""

    what: str = Field(description="What it is called there.", examples=["Application (client) ID"])
    field: str = Field(description="Where it goes in `PUT …/directory`.", examples=["/entra/client_id"])


class Step(Output):
    """One step on the provider's side."""

    title: str = Field(description="What is done.", examples=["Register an application"])
    where: str = Field(description="Where it is done.", examples=["App registrations, New registration"])
    link: str | None = Field(None, description="Where that is found.", examples=["https://entra.microsoft.com"])
    actions: list[str] = Field(description="What to do, in order.", examples=[["Choose Register."]])
    values: list[str] = Field([], description="What to choose there, to paste.", examples=[["User.Read.All"]])
    copies: list[Copied] = Field([], description="What to copy from there to here.")


class Steps(Output):
    """All steps, in order."""

    steps: list[Step] = Field(description="The steps, in order.")
