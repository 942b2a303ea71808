"""/v1/customers/{c}/messages and /v1/queue."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.http.etag import set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.messages.queue import QueueActions
from postern_api.messages.schemas import (
    EXAMPLE_ID,
    MessageAction,
    MessageList,
    MessageResults,
    QueueQuery,
    QueueSummary,
    TracedMessage,
    to_message,
)
from postern_api.messages.service import Messages
from postern_api.messages.summary import summarise
from postern_api.tenancy import Caller, Tenant, customer_scope, signed_in

_messages = APIRouter(prefix="/v1/customers/{c}/messages", tags=["Messages"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.MESSAGES_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.MESSAGES_WRITE)]
MessageId = Annotated[
    str, Path(alias="id", max_length=100, description="Postern's id of the message.", examples=[EXAMPLE_ID])
]


@_messages.get("", operation_id="messages_list", summary="Trace messages", responses=answers(404))
async def list_messages(tenant: Reader, listing: Annotated[MessageList, Query()]) -> Page[TracedMessage]:
    """The newest first, within the customer's retention."""
    found, cursor = await Messages(tenant).page(listing)
    return Page(items=[to_message(document) for document in found], next_cursor=cursor)


@_messages.post(
    "/actions", operation_id="messages_actions", summary="Act on messages that wait", responses=answers(404)
)
async def act(tenant: Writer, body: MessageAction) -> MessageResults:
    """Each by itself: `results` tells what became of it, and the trace who did it.

    What an edge is trying just now is returned, dropped or held once that attempt is over, where it was not delivered.
    """
    return MessageResults(action=body.action, results=await QueueActions(tenant).act(body))


@_messages.get("/{id}", operation_id="messages_get", summary="Show a message", responses=answers(404))
async def get_message(tenant: Reader, message_id: MessageId, response: Response) -> TracedMessage:
    """What happened to it, step by step."""
    document = await Messages(tenant).get(message_id)
    set_etag(response, document)
    return to_message(document)


_queue = APIRouter(prefix="/v1/queue", tags=["Messages"], route_class=IdempotentRoute)


@_queue.get("", operation_id="queue_get", summary="Show the queue of all customers")
async def show_queue(
    caller: Annotated[Caller, signed_in(Permission.MESSAGES_READ)], query: Annotated[QueueQuery, Query()]
) -> QueueSummary:
    """What waits or is held, by customer and next hop. For the platform's administrators."""
    return await summarise(caller, query)


router = APIRouter()
for part in (_messages, _queue):
    router.include_router(part)
