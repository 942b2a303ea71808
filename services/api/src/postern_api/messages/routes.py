"""/v1/customers/{c}/messages."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.http.etag import set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.messages.schemas import EXAMPLE_ID, MessageList, TracedMessage, to_message
from postern_api.messages.service import Messages
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/messages", tags=["Messages"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.MESSAGES_READ)]
MessageId = Annotated[
    str, Path(alias="id", max_length=100, description="Postern's id of the message.", examples=[EXAMPLE_ID])
]


@router.get("", operation_id="messages_list", summary="Trace messages", responses=answers(404))
async def list_messages(tenant: Reader, listing: Annotated[MessageList, Query()]) -> Page[TracedMessage]:
    """The newest first, within the customer's retention."""
    found, cursor = await Messages(tenant).page(listing)
    return Page(items=[to_message(document) for document in found], next_cursor=cursor)


@router.get("/{id}", operation_id="messages_get", summary="Show a message", responses=answers(404))
async def get_message(tenant: Reader, message_id: MessageId, response: Response) -> TracedMessage:
    """What happened to it, step by step."""
    document = await Messages(tenant).get(message_id)
    set_etag(response, document)
    return to_message(document)
