"""/v1/customers/{c}/tokens."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope
from postern_api.tokens.schemas import (
    EXAMPLE_ID,
    CreatedToken,
    NewCustomerToken,
    Token,
    TokenList,
    to_created,
    to_token,
)
from postern_api.tokens.service import CustomerTokens

router = APIRouter(prefix="/v1/customers/{c}/tokens", tags=["Tokens"], route_class=IdempotentRoute)
TokenId = Annotated[str, Path(alias="id", max_length=100, description="The token's id.", examples=[EXAMPLE_ID])]


@router.get("", operation_id="tokens_list", summary="List a customer's tokens", responses=answers(404))
async def list_tokens(
    tenant: Annotated[Tenant, customer_scope(Permission.TOKENS_READ)], listing: Annotated[TokenList, Query()]
) -> Page[Token]:
    """Without their texts."""
    found, cursor = await CustomerTokens(tenant).page(listing)
    return Page(items=[to_token(document) for document in found], next_cursor=cursor)


@router.post(
    "",
    operation_id="tokens_create",
    summary="Make a token for a customer",
    status_code=201,
    responses=answers(404, 409),
)
async def create_token(
    tenant: Annotated[Tenant, customer_scope(Permission.TOKENS_WRITE)], body: NewCustomerToken, response: Response
) -> CreatedToken:
    """Its text is in this answer and nowhere else."""
    document, text = await CustomerTokens(tenant).create(body)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/tokens/{document['_id']}"
    set_etag(response, document, document["last_used_at"])
    return to_created(document, text)


@router.get("/{id}", operation_id="tokens_get", summary="Show a customer's token", responses=answers(404))
async def get_token(
    tenant: Annotated[Tenant, customer_scope(Permission.TOKENS_READ)], token_id: TokenId, response: Response
) -> Token:
    """Without its text."""
    document = await CustomerTokens(tenant).get(token_id)
    set_etag(response, document, document["last_used_at"])
    return to_token(document)


@router.delete(
    "/{id}", operation_id="tokens_delete", summary="End a token", status_code=204, responses=answers(404, 412, 428)
)
async def delete_token(
    tenant: Annotated[Tenant, customer_scope(Permission.TOKENS_WRITE)], token_id: TokenId, condition: Condition
) -> None:
    """It ends at once, and with it the tokens that were made with it for itself."""
    await CustomerTokens(tenant).delete(token_id, condition)
