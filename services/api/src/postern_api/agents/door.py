"""The door of agents (SPEC L4, T2): a bearer token of an agent leads to the documents of its one customer.

An agent is recognised before its body is looked at, so that nobody else has anything unpacked. Its token opens no other
door, and no other token opens this one.
"""

import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from postern_api.agents.store import AgentAccess
from postern_api.auth.keys import digest
from postern_api.auth.service import origin_key
from postern_api.auth.store import SignInLimits
from postern_api.http.problems import Problem, invalid, rate_limited, unauthorized
from postern_api.resources import Resources, resources_of
from postern_api.tenancy import MAX_SECRET_TEXT, Door
from postern_common.mongo import TenantScope

TOKEN_PREFIX: Final = "pagt_"  # noqa: S105 - what all tokens begin with
CODE_PREFIX: Final = "penr_"
VERSION_HEADER: Final = "X-Postern-Agent"
MAX_VERSION: Final = 50
_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent that calls; `scope` leads to the documents of its customer. `presented` is the hash of its token."""

    id: str
    scope: TenantScope
    resources: Resources
    presented: str


class AgentDoor(Door):
    """An agent with its token."""

    async def __call__(self, request: Request) -> Agent:
        """The agent; 401 otherwise."""
        return await agent_of(request)


def agent() -> Any:
    """The dependency of a route for agents."""
    return Depends(AgentDoor())


async def agent_of(request: Request) -> Agent:
    """Who calls, recognised once a request."""
    found: Agent | None = getattr(request.state, "agent", None)
    if found is None:
        found = request.state.agent = await _recognise(request)
    return found


async def _recognise(request: Request) -> Agent:
    resources = resources_of(request)
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not 0 < len(text) <= MAX_SECRET_TEXT:
        raise unauthorized("Send the token of an agent.")
    access, now = AgentAccess(resources.mongo), resources.now()
    presented = digest(text)
    document = await access.by_token(presented, now) if text.startswith(TOKEN_PREFIX) else None
    if document is None:
        await count_failure(request, resources)
        raise unauthorized("The token is not that of an agent, or has ended.")
    structlog.contextvars.bind_contextvars(customer_id=document["customer_id"], agent_id=document["_id"])
    wait = resources.agent_rates.wait_of(document["_id"], resources.settings.api_agent_requests_per_minute)
    if wait is not None:
        raise rate_limited("This agent calls too often.", wait)
    if document["previous_hash"] is not None and document["token_hash"] == presented:
        await access.retire_previous(document["_id"], presented)
    version = request.headers.get(VERSION_HEADER, "")[:MAX_VERSION]
    await access.seen(document, now, version if version.isascii() and version.isprintable() and version else None)
    return Agent(document["_id"], TenantScope(document["customer_id"]), resources, presented)


async def count_failure(request: Request, resources: Resources) -> None:
    """Count a wrong code or token by its origin; 429 after too many."""
    settings, now = resources.settings, resources.now()
    origin = origin_key(request.client.host if request.client else "unknown")
    counted, end = await SignInLimits(resources.mongo, settings.sign_in_window).count("agent", origin, now)
    if counted > settings.api_sign_in_failures_per_origin:
        raise rate_limited("Too many wrong codes or tokens. Wait a while.", (end - now).total_seconds())


class _Unpacked(Request):
    """A request whose body may be packed with gzip; unpacked it is bounded."""

    async def body(self) -> bytes:
        """The body as JSON."""
        if not hasattr(self, "_body"):
            self._body = await self._plain()
        return self._body

    async def _plain(self) -> bytes:
        packed = await super().body()
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding == "identity":
            return packed
        if encoding != "gzip":
            raise Problem("unsupported-media-type", "Content-Encoding may be gzip.", status=415)
        self.state.packed = packed
        limit = resources_of(self).settings.api_max_agent_page_bytes
        return unpacked(packed, limit)


def unpacked(packed: bytes, limit: int) -> bytes:
    """What gzip holds; 413 where that is more than `limit`, however little it is packed."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(packed, limit + 1)
    except zlib.error:
        raise invalid("The body is no gzip.", "") from None
    if len(plain) > limit:
        raise Problem("body-too-large", f"A page may have {limit} octets at most, unpacked.", status=413)
    if not unpacker.eof or unpacker.unused_data:
        raise invalid("The body is not one whole gzip.", "")
    return plain


class AgentRoute(APIRoute):
    """A route for agents: recognised first, then its body is unpacked."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            await agent_of(request)
            return await handler(_Unpacked(request.scope, request.receive))

        return handle
