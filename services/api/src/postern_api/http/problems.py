"""Errors as problem details (RFC 9457): one catalogue of codes, one way to answer.

The public text comes from `Rejected` or from this catalogue, never from a driver; what went wrong inside goes to the
log under the `error_id` that the caller gets to see. An unknown failure is temporary: 503 with Retry-After.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, get_type_hints

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException as StarletteHTTPException

from postern_api.http.faults import explain, models_in
from postern_api.http.schemas import Input
from postern_common.errors import Rejected, Temporary
from postern_common.ids import new_id

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_BASE: Final = "urn:postern:problem:"
RETRY_SECONDS: Final = 2
MAX_ERRORS: Final = 50
MAX_POINTER: Final = 300

TITLES: Final[dict[str, str]] = {
    "addition-exists": "The addition is there already",
    "address-taken": "The address is in use",
    "agent-exists": "An agent has this name already",
    "body-too-large": "The request is too large",
    "confirmation-required": "The consequences must be confirmed",
    "csrf-failed": "The request did not prove that it comes from the portal",
    "customer-not-empty": "The customer still holds something",
    "customer-suspended": "The customer is suspended",
    "default-site": "The default site is needed",
    "deletion-too-soon": "The deletion would come too soon",
    "directory-has-it": "The directory has it",
    "directory-not-configured": "No directory is set up",
    "directory-off": "Synchronisation is switched off",
    "directory-unreadable": "The directory cannot be read",
    "domain-exists": "The domain is there already",
    "domain-not-managed": "The domain is not one of the customer's",
    "domain-not-verified": "The domain is not proven yet",
    "exception-exists": "The exception is there already",
    "forbidden": "No right to do this",
    "host-refused": "The host may not be used",
    "idempotency-answer-lost": "The first answer is lost",
    "idempotency-in-progress": "The first request is still running",
    "idempotency-key-reused": "The key belongs to another request",
    "import-unreadable": "The file cannot be read as users",
    "internal-error": "Something went wrong",
    "invalid-address": "Not an address",
    "invalid-cursor": "Not a cursor of this list",
    "invalid-domain": "Not a domain that can be added",
    "invalid-host": "Not a host",
    "invalid-request": "The request has mistakes",
    "licence-limit": "All licences are in use",
    "limit-reached": "There are as many as there may be",
    "method-not-allowed": "The method is not allowed here",
    "mta-sts-in-force": "Senders may hold the policy still",
    "mta-sts-not-offered": "Policies are not hosted here",
    "mx-not-covered": "The policy leaves out mail servers of the domain",
    "mx-unknown": "The domain's MX records are not known",
    "not-found": "There is no such thing",
    "own-mx": "The host is this gateway itself",
    "plan-stale": "The plan no longer holds",
    "precondition-failed": "The thing has changed",
    "precondition-required": "If-Match is needed",
    "rate-limited": "Too many requests",
    "sign-in-failed": "The sign-in failed",
    "request-timeout": "The request came too slowly",
    "site-in-use": "The site is in use",
    "sync-running": "A run is under way",
    "temporarily-unavailable": "Try again in a moment",
    "too-many-servers": "Too many servers",
    "unauthorized": "Sign-in is needed",
    "unsupported-media-type": "This kind of body is not taken",
    "wrong-state": "The state does not allow this",
}


class Problem(Rejected):
    """A refusal with further members (`existing`) and headers (`Retry-After`) in its answer."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        pointer: str | None = None,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, message, pointer=pointer, status=status)
        self.members = dict(members or {})
        self.headers = dict(headers or {})


def not_found() -> Problem:
    """What a missing thing and another tenant's thing have in common (SPEC T2)."""
    return Problem("not-found", "No such resource, or it is not yours to see.", status=404)


def forbidden(message: str = "Your role does not allow this.") -> Problem:
    """No right in one's own tenant."""
    return Problem("forbidden", message, status=403)


def unauthorized(message: str = "Sign in, or send a valid token.") -> Problem:
    """Nobody is signed in."""
    return Problem("unauthorized", message, status=401, headers={"WWW-Authenticate": 'Bearer realm="postern"'})


def conflict(code: str, message: str, *, pointer: str | None = None, **members: Any) -> Problem:
    """Something stands in the way (409)."""
    return Problem(code, message, status=409, pointer=pointer, members=members)


def limit_reached(things: str, limit: int) -> Problem:
    """One more would be too many (409)."""
    return conflict("limit-reached", f"There are {limit} {things} already, and no more may be. Remove one first.")


def invalid(message: str, pointer: str, *, code: str = "invalid-request") -> Problem:
    """A field has a wrong value (422)."""
    return Problem(code, message, status=422, pointer=pointer)


def rate_limited(message: str, retry_after: float) -> Problem:
    """Too much at once (429)."""
    return Problem("rate-limited", message, status=429, headers={"Retry-After": str(max(1, round(retry_after)))})


def problem_document(
    code: str,
    status: int,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    members: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of a problem answer."""
    document: dict[str, Any] = {
        "type": TYPE_BASE + code,
        "title": TITLES.get(code) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        document["errors"] = list(errors)
    document.update(members or {})
    return document


def respond(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that carries `document`."""
    return JSONResponse(
        document, status_code=int(document["status"]), headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


def from_rejected(error: Rejected) -> JSONResponse:
    """The answer to a refusal."""
    errors = [{"pointer": error.pointer, "message": error.message}] if error.pointer is not None else []
    members = error.members if isinstance(error, Problem) else {}
    headers = error.headers if isinstance(error, Problem) else {}
    return respond(problem_document(error.code, error.status, error.message, errors=errors, members=members), headers)


def from_temporary(error: Temporary) -> JSONResponse:
    """The answer while something that is needed is away; the reason goes to the log only."""
    error_id = new_id("err")
    wait = error.retry_after or timedelta(seconds=RETRY_SECONDS)
    log.warning("temporarily_unavailable", reason=error.reason, error_id=error_id)
    detail = "Something that this needs is away for the moment. Try again."
    document = problem_document("temporarily-unavailable", 503, detail, members={"error_id": error_id})
    return respond(document, {"Retry-After": str(max(1, round(wait.total_seconds())))})


def from_unknown(error: Exception) -> JSONResponse:
    """The answer to a bug: temporary until somebody has looked at the log."""
    error_id = new_id("err")
    log.error("unhandled_error", error_id=error_id, exc_info=error)
    document = problem_document(
        "internal-error",
        503,
        "Something went wrong here; nothing is wrong with your request.",
        members={"error_id": error_id},
    )
    return respond(document, {"Retry-After": "30"})


def from_validation(error: RequestValidationError, request: Request) -> JSONResponse:
    """The answer to fields that do not fit; values are not repeated."""
    faults = error.errors()[:MAX_ERRORS]
    # What is not declared as JSON reaches the schema unread, and fails there as a whole.
    if any(tuple(item["loc"]) == ("body",) and item["type"] != "missing" for item in faults) and not _is_json(request):
        return respond(problem_document("unsupported-media-type", 415, "Send application/json."))
    errors = [_field_error(item, request) for item in faults]
    detail = "; ".join(f"{item['pointer'] or 'the body'}: {item['message']}" for item in errors[:3])
    return respond(problem_document("invalid-request", 422, detail, errors=errors))


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _field_error(fault: Mapping[str, Any], request: Request) -> dict[str, str]:
    where, *path = fault["loc"] or ("body",)
    if fault["type"] == "json_invalid":
        path = []
    endpoint = request.scope.get("endpoint")
    hints = get_type_hints(endpoint, include_extras=True).values() if endpoint is not None else ()
    models = [model for hint in hints for model in models_in(hint) if issubclass(model, Input) == (where == "body")]
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
    found = {"pointer": pointer[:MAX_POINTER], "message": explain(fault, models)}
    return found if where == "body" else {**found, "in": str(where)}


_HTTP_CODES: Final = {
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "body-too-large",
    422: "invalid-request",
}


def from_http(error: StarletteHTTPException) -> JSONResponse:
    """The answer where no route fits, or the body could not be read."""
    if isinstance(error.__cause__, Rejected):  # raised by our own layers while the framework read the body
        return from_rejected(error.__cause__)
    if isinstance(error.__cause__, RecursionError):
        return respond(problem_document("invalid-request", 422, "The body is nested too deeply."))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return respond(problem_document("not-found", 404, "There is no such path."))
    code, status = _HTTP_CODES.get(error.status_code), error.status_code
    if code is None:
        code, status = "invalid-request", 422
    return respond(problem_document(code, status, TITLES[code] + "."), error.headers)


def _methods_at(app: FastAPI, path: str) -> set[str]:
    """All methods of a path (RFC 9110 10.2.1); the framework names those of the first route that fits."""
    routes = (context.original_route for context in iter_route_contexts(app.routes))
    found: set[str] = set()
    for route in routes:
        if isinstance(route, APIRoute) and route.path_regex.match(path):
            found |= set(route.methods or ())
    return found | {"HEAD"} if "GET" in found else found


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem."""

    async def rejected(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Rejected)  # noqa: S101 - the registration below says so
        return from_rejected(error)

    async def temporary(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Temporary)  # noqa: S101 - the registration below says so
        return from_temporary(error)

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - the registration below says so
        return from_validation(error, request)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StarletteHTTPException)  # noqa: S101 - the registration below says so
        answer = from_http(error)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            answer.headers["Allow"] = ", ".join(sorted(_methods_at(app, request.url.path)))
        return answer

    app.add_exception_handler(Rejected, rejected)
    app.add_exception_handler(Temporary, temporary)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(StarletteHTTPException, http)
