"""/v1/me, /v1/me/tokens, /v1/me/sessions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.me.schemas import EXAMPLE_SESSION, Me, SessionInfo, SessionList, to_me, to_session
from postern_api.me.service import OwnSessions
from postern_api.tenancy import Caller, signed_in
from postern_api.tokens.routes import TokenId
from postern_api.tokens.schemas import CreatedToken, NewToken, Token, TokenList, to_created, to_token
from postern_api.tokens.service import OwnTokens

router = APIRouter(prefix="/v1/me", tags=["Me"], route_class=IdempotentRoute)
SessionId = Annotated[
    str, Path(alias="id", max_length=100, description="The session's id.", examples=[EXAMPLE_SESSION])
]


@router.get("", operation_id="me_get", summary="Show who is asking")
async def get_me(caller: Annotated[Caller, signed_in()]) -> Me:
    """The principal with its role and permissions."""
    return to_me(caller.principal)


@router.get("/tokens", operation_id="me_tokens_list", summary="List your tokens")
async def list_tokens(caller: Annotated[Caller, signed_in()], listing: Annotated[TokenList, Query()]) -> Page[Token]:
    """Without their texts."""
    found, cursor = await OwnTokens(caller).page(listing)
    return Page(items=[to_token(document) for document in found], next_cursor=cursor)


@router.post(
    "/tokens", operation_id="me_tokens_create", summary="Make a token", status_code=201, responses=answers(409)
)
async def create_token(
    caller: Annotated[Caller, signed_in(Permission.SELF_WRITE)], body: NewToken, response: Response
) -> CreatedToken:
    """Its text is in this answer and nowhere else. It may do no more than you; a token's token ends with it."""
    document, text = await OwnTokens(caller).create(body)
    response.headers["Location"] = f"/v1/me/tokens/{document['_id']}"
    set_etag(response, document, document["last_used_at"])
    return to_created(document, text)


@router.get("/tokens/{id}", operation_id="me_tokens_get", summary="Show one of your tokens", responses=answers(404))
async def get_token(caller: Annotated[Caller, signed_in()], token_id: TokenId, response: Response) -> Token:
    """Without its text."""
    document = await OwnTokens(caller).get(token_id)
    set_etag(response, document, document["last_used_at"])
    return to_token(document)


@router.delete(
    "/tokens/{id}",
    operation_id="me_tokens_delete",
    summary="End a token",
    status_code=204,
    responses=answers(404, 412, 428),
)
async def delete_token(
    caller: Annotated[Caller, signed_in(Permission.SELF_WRITE)], token_id: TokenId, condition: Condition
) -> None:
    """It ends at once, and with it the tokens that were made with it."""
    await OwnTokens(caller).delete(token_id, condition)


@router.get("/sessions", operation_id="me_sessions_list", summary="List your sessions")
async def list_sessions(
    caller: Annotated[Caller, signed_in()], listing: Annotated[SessionList, Query()]
) -> Page[SessionInfo]:
    """Those that last."""
    found, cursor = await OwnSessions(caller).page(listing)
    current = caller.principal.session_id
    return Page(items=[to_session(document, current) for document in found], next_cursor=cursor)


@router.get("/sessions/{id}", operation_id="me_sessions_get", summary="Show a session", responses=answers(404))
async def get_session(caller: Annotated[Caller, signed_in()], session_id: SessionId, response: Response) -> SessionInfo:
    """Where it began and when it was used."""
    document = await OwnSessions(caller).get(session_id)
    set_etag(response, document, document["last_used_at"])
    return to_session(document, caller.principal.session_id)


@router.delete(
    "/sessions/{id}",
    operation_id="me_sessions_delete",
    summary="End a session",
    status_code=204,
    responses=answers(404, 412, 428),
)
async def delete_session(
    caller: Annotated[Caller, signed_in(Permission.SELF_WRITE)], session_id: SessionId, condition: Condition
) -> None:
    """It ends at once."""
    await OwnSessions(caller).end(session_id, condition)
