"""The door of agents (SPEC L4, T2): a bearer token of an agent leads to the documents of its one customer.

An agent is recognised before its body is looked at, so that nobody else has anything unpacked. Its token opens no other
door, and no other token opens this one.
"""

import re
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

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
# A page of the agent's has half of that at most: 512 KiB, at three octets a value, beside one entry that is larger.
MAX_VALUES: Final = 200_000
# One that is not closed reaches to the end, so that the time stays even with the length.
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


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

    packed: bytes = b""

    async def take(self) -> None:
        """Have the body here as it came, however long that takes."""
        try:
            self.packed = await super().body()
        except ClientDisconnect:
            raise invalid("The body did not come whole.", "") from None
        del self._body

    async def body(self) -> bytes:
        """The body as JSON."""
        if not hasattr(self, "_body"):
            self._body = self._plain(self.packed)
            check_values(self._body)
        return self._body

    def _plain(self, packed: bytes) -> bytes:
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
        del plain  # the answer's error would hold it until it is collected
        raise Problem("body-too-large", f"A page may have {limit} octets at most, unpacked.", status=413)
    if not unpacker.eof or unpacker.unused_data:
        raise invalid("The body is not one whole gzip.", "")
    return plain


def check_values(plain: bytes) -> None:
    """413 where JSON has more values than any page: taken apart they need far more memory than their text."""
    bare = _STRINGS.sub(b"", plain)
    if sum(map(bare.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise Problem("body-too-large", f"A page may have {MAX_VALUES} values at most.", status=413)


class AgentRoute(APIRoute):
    """A route for agents: recognised first, then its body is unpacked, a few at a time."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            await agent_of(request)
            if request.method == "GET":
                return await handler(request)
            sent = _Unpacked(request.scope, request.receive)
            await sent.take()
            async with resources_of(request).agent_room.bodies:
                return await handler(sent)

        return handle
