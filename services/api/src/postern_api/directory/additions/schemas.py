"""Bodies of additions."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from postern_api.http.schemas import EXAMPLE_TIME, AddressText, Input, Line, ListQuery, Output, Part, Patch

EXAMPLE_ID: Final = "dsx_0192f0c1a8b47c3e9d215b7f10aa3c67"


class NewAddition(Input):
    """An address to add to what the directory says."""

    address: AddressText = Field(
        description="In one of the customer's verified domains, and in use by nobody.", examples=["desk@example.com"]
    )
    first_name: Line = Field("", description="Given name.", examples=["Front"])
    last_name: Line = Field("", description="Family name.", examples=["Desk"])


class AdditionPatch(Patch):
    """What to change of an addition."""

    address: AddressText = Field("", description="Another address.", examples=["desk@example.com"])
    first_name: Line = Field("", description="Given name.", examples=["Front"])
    last_name: Line = Field("", description="Family name.", examples=["Desk"])


class Addition(Output):
    """An address that takes part in the synchronisation, with the directory's source."""

    id: str = Field(description="Its id.", examples=[EXAMPLE_ID])
    address: str = Field(description="The address.", examples=["desk@example.com"])
    first_name: str = Field(description="Given name.", examples=["Front"])
    last_name: str = Field(description="Family name.", examples=["Desk"])
    created_at: datetime = Field(description="When it was added.", examples=[EXAMPLE_TIME])
    created_by: str = Field(description="By whom.", examples=["adm_0192f0c1a8b47c3e9d215b7f10aa3c61"])


class AdditionList(ListQuery):
    """What the list of additions takes."""

    sort: Literal["address", "-address", "created_at", "-created_at"] = Field(
        "address", description="The order.", examples=["address"]
    )
    search: Part | None = Field(None, max_length=100, description="Part of the address or a name.", examples=["desk"])


SORTS: Final = {"address": "key", "created_at": "_id"}


def to_addition(document: Any) -> Addition:
    """The answer for a stored addition."""
    fields = {name: document[name] for name in Addition.model_fields if name != "id"}
    return Addition(id=document["_id"], **fields)
