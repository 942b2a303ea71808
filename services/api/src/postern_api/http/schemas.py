"""What all request and answer bodies share: unknown fields refused, clean text, patches that know what was sent."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

T = TypeVar("T")
EXAMPLE_TIME: Final = "2026-01-31T12:00:00Z"
MAX_UNKNOWN: Final = 100
HALVES: Final = re.compile("[\ud800-\udfff]")


def one_line(value: str) -> str:
    """Refuse text that would not stay on its line."""
    # Line ends and controls would become header fields or commands somewhere down the line (CASES 55).
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in value):
        raise ValueError("control characters and line ends are not allowed")
    return value


def _many_lines(value: str) -> str:
    one_line(value.replace("\r\n", " ").replace("\n", " ").replace("\t", " "))
    return value


def _kept_time(value: datetime) -> datetime:
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None
    # MongoDB keeps milliseconds: what is answered now must be what is read later.
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


Time = Annotated[AwareDatetime, AfterValidator(_kept_time)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(one_line)]
RequiredLine = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(one_line)
]
Notes = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000), AfterValidator(_many_lines)]


def _searchable(value: str) -> str:
    """MongoDB takes no NUL in a pattern, and nothing that is stored holds one."""
    if "\0" in value:
        raise ValueError("control characters are not allowed")
    return value


Part = Annotated[str, StringConstraints(min_length=1), AfterValidator(_searchable)]
DomainText = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(one_line)]
AddressText = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(one_line)]


class Input(BaseModel):
    """A request's body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, str_strip_whitespace=False)

    @model_validator(mode="before")
    @classmethod
    def _names_are_few(cls, data: Any) -> Any:
        """Each unknown name is told in the answer, which needs a hundred times the memory that the name does."""
        if isinstance(data, dict) and len(data) > len(cls.model_fields) + MAX_UNKNOWN:
            raise ValueError("there are far more names than are known here")
        return data

    @field_validator("*", mode="after", check_fields=False)
    @classmethod
    def _is_unicode(cls, value: Any) -> Any:
        """JSON can write halves of surrogate pairs, which no database and no hash takes."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and HALVES.search(text) is not None:
            raise ValueError("this is no valid Unicode text")
        return value


class Patch(Input):
    """A JSON merge patch (RFC 7396): only what was sent changes. Defaults are never used and not shown."""

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        return self.model_dump(exclude_unset=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shown = handler(schema)
        for field in handler.resolve_ref_schema(shown).get("properties", {}).values():
            field.pop("default", None)
        return shown


class Output(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class Page(Output, Generic[T]):
    """A part of a list."""

    items: list[T] = Field(description="The things on this page.")
    next_cursor: str | None = Field(
        description="What to send as `cursor` for the next page; null at the end.", examples=[None]
    )


class FieldError(BaseModel):
    """A mistake in one field."""

    pointer: str = Field(description="JSON pointer (RFC 6901) of the field.", examples=["/name"])
    message: str = Field(description="What is wrong with it.", examples=["this field is required"])
    in_: str | None = Field(
        None,
        alias="in",
        description="`query`, `path` or `header` where the field is not in the body.",
        examples=["query"],
    )


class ProblemBody(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="Stable name of the kind of problem.", examples=["urn:postern:problem:not-found"])
    title: str = Field(description="The kind in words.", examples=["There is no such thing"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What happened.", examples=["No such resource, or it is not yours to see."])
    code: str = Field(description="The slug at the end of `type`.", examples=["not-found"])
    errors: list[FieldError] = Field(
        default_factory=list,
        description="The fields at fault.",
        examples=[[{"pointer": "/name", "message": "this field is required"}]],
    )
    error_id: str | None = Field(
        None, description="Names the entry in the log.", examples=["err_0192f0c1a8b47c3e9d215b7f10aa3c55"]
    )


class ListQuery(BaseModel):
    """What every list takes. `sort` is declared by each list for itself."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    limit: int = Field(50, ge=1, le=200, description="How many things at most.", examples=[50])
    cursor: str | None = Field(
        None,
        max_length=2000,
        description="`next_cursor` of the page before.",
        examples=["eyJzIjoibmFtZSJ9.c2lnbmF0dXJl"],
    )
