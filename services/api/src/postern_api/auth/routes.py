"""POST /v1/auth/sign-in and /v1/auth/sign-out."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from postern_api.auth.keys import csrf_token
from postern_api.auth.schemas import SignedIn, SignIn
from postern_api.auth.service import Authenticator
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import PUBLIC, answers
from postern_api.resources import resources_of
from postern_api.tenancy import COOKIE, CSRF_COOKIE, Caller, public, signed_in

router = APIRouter(prefix="/v1/auth", tags=["Sign-in"], route_class=IdempotentRoute)


@router.post(
    "/sign-in",
    operation_id="auth_sign_in",
    summary="Sign in",
    dependencies=[public()],
    responses=answers(401, 429),
    openapi_extra=PUBLIC,
)
async def sign_in(body: SignIn, request: Request, response: Response) -> SignedIn:
    """Start a session.

    The answer holds its bearer token, and sets it as a cookie for browsers; changes made with the cookie need the
    header `X-CSRF-Token` with the value of the cookie `postern_csrf`. After too many failures of an account or an
    address the answer is 429 for a while.
    """
    resources = resources_of(request)
    origin = request.client.host if request.client else "unknown"
    agent = request.headers.get("user-agent", "")
    text, ends = await Authenticator(resources).sign_in(body.login, body.password.get_secret_value(), origin, agent)
    lasts = resources.settings.api_session_hours * 3600
    secure = resources.settings.is_production
    response.set_cookie(COOKIE, text, max_age=lasts, path="/", httponly=True, samesite="strict", secure=secure)
    response.set_cookie(CSRF_COOKIE, csrf_token(text), max_age=lasts, path="/", samesite="strict", secure=secure)
    return SignedIn(token=text, expires_at=ends)


@router.post(
    "/sign-out",
    operation_id="auth_sign_out",
    summary="Sign out",
    status_code=204,
    responses=answers(401, 403),
)
async def sign_out(caller: Annotated[Caller, signed_in()], response: Response) -> None:
    """End the session that the request came with. A token is not ended: delete it."""
    await Authenticator(caller.resources).sign_out(caller.principal)
    response.delete_cookie(COOKIE, path="/")
    response.delete_cookie(CSRF_COOKIE, path="/")
