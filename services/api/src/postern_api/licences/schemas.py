"""Body of a customer's licences."""

from pydantic import Field

from postern_api.http.schemas import Output


class NotCounted(Output):
    """What costs no licence."""

    shared: int = Field(description="Shared mailboxes.", examples=[4])
    resource: int = Field(description="Rooms and equipment.", examples=[6])
    list: int = Field(description="Distribution lists and groups.", examples=[20])
    public_folder: int = Field(description="Public folders.", examples=[0])


class Licences(Output):
    """A user is one primary address; aliases, lists and other mailboxes cost nothing."""

    allowed: int | None = Field(description="Users that there may be; null is no limit.", examples=[250])
    used: int = Field(description="Users that there are, flagged and deactivated ones too.", examples=[231])
    left: int | None = Field(description="How many more there may be; null is no limit.", examples=[19])
    not_counted: NotCounted = Field(description="What is there and costs no licence.")
