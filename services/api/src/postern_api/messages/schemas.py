"""Bodies of the message trace, as the outside contract shows them."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from postern_api.http.schemas import EXAMPLE_TIME, Input, ListQuery, Output, Part, Time
from postern_common.documents import RecipientState

EXAMPLE_ID: Final = "msg_0192f0c1a8b47c3e9d215b7f10aa3c58"
MAX_ACTIONS: Final = 500
Action = Literal["retry", "hold", "release", "bounce", "drop"]
Outcome = Literal["done", "not-found", "wrong-state", "under-way"]
QueueState = Literal["queued", "held", "done"]


class TracedRecipient(Output):
    """A recipient of a message."""

    address: str = Field(description="The address.", examples=["ann@example.com"])
    state: RecipientState = Field(description="What became of it.", examples=["delivered"])
    reply: str | None = Field(description="What the next hop said last.", examples=["250 2.0.0 Ok: queued as 4F2"])
    next_hop: str | None = Field(description="Where it went, or was tried last.", examples=["192.0.2.25:25"])
    next_attempt_at: datetime | None = Field(description="When it is tried next.", examples=[None])


class TraceStep(Output):
    """Something that happened to a message."""

    at: datetime = Field(description="When.", examples=[EXAMPLE_TIME])
    actor: str = Field(description="Who did it.", examples=["smtp-edge"])
    what: str = Field(description="What was done.", examples=["accepted"])
    detail: str = Field(description="More about it.", examples=["from 192.0.2.1 by ESMTPS"])


class TracedMessage(Output):
    """A message and what happened to it."""

    id: str = Field(description="Postern's id.", examples=[EXAMPLE_ID])
    queue_id: str = Field(description="What the sender's server was told.", examples=["7KQ2M9X4T1"])
    message_id: str = Field(description="The Message-ID header.", examples=["<4711@sender.example>"])
    direction: Literal["inbound", "outbound", "dsn"] = Field(description="Which way it goes.", examples=["inbound"])
    sender: str = Field(description="The envelope's sender; empty for notifications.", examples=["bob@sender.example"])
    recipients: list[TracedRecipient] = Field(description="Each recipient with its result.")
    subject: str = Field(description="The Subject header.", examples=["Lunch on Friday?"])
    size: int = Field(description="Octets, with headers.", examples=[4096])
    received_at: datetime = Field(description="When it was taken.", examples=[EXAMPLE_TIME])
    steps: list[TraceStep] = Field(description="What happened, in order.")
    queue: QueueState = Field(
        description="`queued`: something is left to deliver; `held` by an operator; `done`.", examples=["queued"]
    )
    due_at: datetime | None = Field(description="When it is tried next.", examples=[EXAMPLE_TIME])
    expires_at: datetime = Field(
        description="When it is returned to the sender if not delivered.", examples=[EXAMPLE_TIME]
    )


class MessageList(ListQuery):
    """What the trace takes; all filters must fit."""

    sort: Literal["received_at", "-received_at"] = Field(
        "-received_at", description="The order.", examples=["-received_at"]
    )
    sender: Part | None = Field(
        None,
        max_length=320,
        description="The sender's address, or a part of it.",
        examples=["bob@sender.example"],
    )
    recipient: Part | None = Field(
        None,
        max_length=320,
        description="A recipient's address, or a part of it.",
        examples=["ann@example.com"],
    )
    subject: Part | None = Field(None, max_length=200, description="Part of the subject.", examples=["Lunch"])
    message_id: str | None = Field(
        None,
        max_length=998,
        description="The Message-ID header, with or without angle brackets.",
        examples=["<4711@sender.example>"],
    )
    queue_id: str | None = Field(None, max_length=64, description="The queue id.", examples=["7KQ2M9X4T1"])
    state: RecipientState | None = Field(None, description="A recipient in this state.", examples=["deferred"])
    queue: QueueState | None = Field(None, description="What waits, is held or is done.", examples=["queued"])
    next_hop: Part | None = Field(
        None, max_length=320, description="Delivered to, or tried last at.", examples=["192.0.2.25:25"]
    )
    from_: Time | None = Field(None, alias="from", description="Received then or later.", examples=[EXAMPLE_TIME])
    to: Time | None = Field(None, description="Received before then.", examples=[EXAMPLE_TIME])


# Ids begin with the time, so that the order of ids is the order of receipt.
SORTS: Final = {"received_at": "_id"}


def to_message(document: Any) -> TracedMessage:
    """The answer for a stored message; what only the edge needs stays inside."""
    recipients = [
        TracedRecipient(**{name: recipient[name] for name in TracedRecipient.model_fields})
        for recipient in document["recipients"]
    ]
    steps = [TraceStep(**{name: step[name] for name in TraceStep.model_fields}) for step in document["steps"]]
    special = {"id", "recipients", "steps", "queue"}
    fields = {name: document[name] for name in TracedMessage.model_fields if name not in special}
    return TracedMessage(id=document["_id"], recipients=recipients, steps=steps, queue=document["state"], **fields)


class MessageAction(Input):
    """What is done to which messages."""

    action: Action = Field(
        description="`retry` at once; `hold` until it is released; `release`; `bounce`: back to its sender; `drop` it "
        "and tell nobody.",
        examples=["retry"],
    )
    message_ids: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        min_length=1, max_length=MAX_ACTIONS, description="The messages.", examples=[[EXAMPLE_ID]]
    )


class MessageResult(Output):
    """What became of one."""

    message_id: str = Field(description="The message.", examples=[EXAMPLE_ID])
    outcome: Outcome = Field(
        description="`wrong-state`: nothing of it waits, or it is held already, or it is not held. `under-way`: it is "
        "being tried just now.",
        examples=["done"],
    )


class MessageResults(Output):
    """What became of them, one by one."""

    action: Action = Field(description="What was to be done.", examples=["retry"])
    results: list[MessageResult] = Field(description="In the order of the request.")


class QueueQuery(BaseModel):
    """What is counted."""

    model_config = ConfigDict(extra="forbid")

    customer_id: str | None = Field(
        None, max_length=100, description="Only this customer's.", examples=["cus_0192f0c1"]
    )
    next_hop: str | None = Field(
        None, max_length=320, description="Only what waits for it.", examples=["192.0.2.25:25"]
    )


class QueueRow(Output):
    """What waits of one customer for one next hop."""

    customer_id: str = Field(description="The customer.", examples=["cus_0192f0c1a8b47c3e9d215b7f10aa3c55"])
    next_hop: str | None = Field(description="Where it was tried last; null before.", examples=["192.0.2.25:25"])
    queue: QueueState = Field(description="`queued` or `held`.", examples=["queued"])
    messages: int = Field(description="How many messages.", examples=[120])
    recipients: int = Field(description="How many recipients are left to deliver to.", examples=[140])
    oldest_received_at: datetime = Field(description="When the oldest was taken.", examples=[EXAMPLE_TIME])
    next_due_at: datetime | None = Field(description="When one of them is tried next.", examples=[EXAMPLE_TIME])


class QueueSummary(Output):
    """The whole queue by customer and next hop, most first."""

    items: list[QueueRow] = Field(description="At most 1,000.")
    truncated: bool = Field(description="Whether the queue is longer than what was counted.", examples=[False])
