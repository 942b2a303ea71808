"""The API's own description: what FastAPI derives from the routes, completed with what all of them share."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from postern_api.http.problems import MEDIA_TYPE, problem_document
from postern_api.http.schemas import ProblemBody

_STATUS: Final[dict[int, tuple[str, str, str]]] = {
    401: ("unauthorized", "Nobody is signed in.", "Sign in, or send a valid token."),
    403: ("forbidden", "The role does not allow it.", "Your role does not allow this."),
    404: ("not-found", "No such thing, or another tenant's.", "There is no such thing, or it is not yours."),
    409: ("address-taken", "Something stands in the way.", "The address ann@example.com is in use."),
    408: ("request-timeout", "The body came too slowly.", "The body was not there within 30 seconds."),
    412: (
        "precondition-failed",
        "It has changed since it was read.",
        "It has changed since you read it. Read it again.",
    ),
    413: ("body-too-large", "The body is too large.", "A request's body may have 1048576 octets at most."),
    415: ("unsupported-media-type", "The kind of body is not taken.", "Send a file, text/csv or application/json."),
    422: ("invalid-request", "The request has mistakes.", "/name: Field required"),
    428: ("precondition-required", "If-Match is missing.", "Send the ETag of what you have read in If-Match."),
    429: ("rate-limited", "Too many requests.", "10 domains are being looked at for you already."),
    503: (
        "temporarily-unavailable",
        "Try again after Retry-After.",
        "Something that this needs is away for the moment. Try again.",
    ),
}
_WITH_RETRY: Final = frozenset({429, 503})
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}

DESCRIPTION: Final = """\
The HTTP API of Postern, a multi-tenant email security gateway.

**Sign-in.** Send `Authorization: Bearer <token>` with an API token or the token of a sign-in, or use the session
cookie; changes made with the cookie need `X-CSRF-Token`.

**Errors** are problem details (RFC 9457): `code` is stable, `errors[]` points at the fields at fault.

**Lists** take `limit`, `cursor` and `sort` (a field, or `-field` for the other way round) and answer `items` and
`next_cursor`.

**Changes.** Single resources carry an `ETag`; PUT, PATCH and DELETE need it in `If-Match`. PATCH is a JSON merge patch.
POST takes an `Idempotency-Key`: a repetition within 24 hours gets the first answer again, or 409
`idempotency-answer-lost` where a failure of ours lost that answer after the change was made.

GET paths answer HEAD too, with the same headers.

Times are RFC 3339 in UTC, ids are opaque, unknown fields are refused.
"""

TAGS: Final = [
    {"name": "Sign-in", "description": "Sessions of people."},
    {"name": "Me", "description": "The signed-in principal, its tokens and sessions."},
    {"name": "Customers", "description": "Tenants: each owns domains, sites, users and settings."},
    {"name": "Tokens", "description": "A customer's API tokens."},
    {"name": "Domains", "description": "Domains, and the proof by DNS that they are the customer's."},
    {"name": "Sites", "description": "Where a customer's mail is delivered to."},
    {"name": "Users", "description": "Mailbox owners and their addresses."},
    {
        "name": "Imports",
        "description": "Users from CSV and XLSX files, reviewed before anything is saved; export and samples.",
    },
    {"name": "Directory", "description": "Synchronisation with a directory."},
    {"name": "Agents", "description": "Agents that read a directory behind a firewall, and what they call."},
    {"name": "Groups", "description": "Distribution lists and groups with their members."},
    {"name": "Licences", "description": "How many users there may be."},
    {"name": "Messages", "description": "What happened to each message."},
    {"name": "Service", "description": "The API about itself."},
]


PUBLIC: Final = {"x-public": True}
BY_AGENT: Final = {"x-agent": True}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route answers with; those of every route are added by `describe`."""
    return {status: _answer(status) for status in statuses}


def tagged(status: int) -> dict[int | str, dict[str, Any]]:
    """For a single thing whose path ends in no id: its answer carries its tag."""
    return {status: {"headers": {"ETag": dict(_ETAG)}}}


def _answer(status: int) -> dict[str, Any]:
    code, description, detail = _STATUS[status]
    answer: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": _PROBLEM, "example": problem_document(code, status, detail)}},
    }
    if status in _WITH_RETRY:
        answer["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}, "example": 2}
        }
    return answer


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=DESCRIPTION,
            routes=app.routes,
            tags=TAGS,
            summary=app.summary,
        )
        _add_components(document)
        for path, item in document["paths"].items():
            for method, operation in item.items():
                _complete(method, operation)
                _add_headers(path, method, operation)
        app.openapi_schema = document
    return app.openapi_schema


def _add_components(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _, definitions = models_json_schema([(ProblemBody, "serialization")], ref_template="#/components/schemas/{model}")
    found = definitions["$defs"]
    schemas["Problem"] = found.pop("ProblemBody")
    schemas.update(found)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API token, or the token of a sign-in."},
        "agent": {"type": "http", "scheme": "bearer", "description": "The token of an agent."},
        "session": {
            "type": "apiKey", "in": "cookie", "name": "postern_session",
            "description": "The cookie of a sign-in. Changes need the header `X-CSRF-Token` too.",
        },
    }  # fmt: skip
    document["security"] = [{"bearer": []}, {"session": []}]


_IDEMPOTENCY_KEY: Final[Mapping[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names this request, so that a repetition changes nothing and gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "6b1f2e60-7d0c-4e8e-9a55-1f0f2f5c7f11",
}


def _complete(method: str, operation: dict[str, Any]) -> None:
    found = operation["responses"]
    is_public = operation.pop("x-public", False)
    is_agents = operation.pop("x-agent", False)
    shared = [422, 503] if is_public else [401, 403, 422, 503]
    if method in {"post", "put", "patch"}:
        shared += [408, 413]
    for status in shared:
        found[str(status)] = _answer(status)
    operation["responses"] = dict(sorted(found.items()))
    if is_public:
        operation["security"] = []
    elif is_agents:
        operation["security"] = [{"agent": []}]
    elif method == "post":
        operation.setdefault("parameters", []).append(dict(_IDEMPOTENCY_KEY))
    for parameter in operation.get("parameters", ()):
        if parameter["name"].lower() == "if-match":
            is_required = not parameter["schema"].pop("x-optional", False)
            parameter |= {"name": "If-Match", "required": is_required, "example": '"3"'}
            parameter["schema"] = {"type": "string", "maxLength": 200}
    if method == "patch":
        content = operation["requestBody"]["content"]
        content["application/merge-patch+json"] = content["application/json"]


_LOCATION: Final[Mapping[str, Any]] = {
    "description": "Where it is.",
    "schema": {"type": "string"},
    "example": "/v1/customers/cus_0192f0c1a8b47c3e9d215b7f10aa3c55",
}
_ETAG: Final[Mapping[str, Any]] = {
    "description": "Names this state; send it in `If-Match` with a change.",
    "schema": {"type": "string"},
    "example": '"3"',
}


def _add_headers(path: str, method: str, operation: dict[str, Any]) -> None:
    """Tell where a new thing is, and that a single thing carries its tag."""
    for status, answer in operation["responses"].items():
        if status in {"201", "202"}:
            answer.setdefault("headers", {})["Location"] = dict(_LOCATION)
        if status == "200" and path.endswith("}") and method in {"get", "put", "patch"}:
            answer.setdefault("headers", {})["ETag"] = dict(_ETAG)
