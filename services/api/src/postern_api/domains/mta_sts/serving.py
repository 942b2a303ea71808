"""Serves the hosted policies to senders: `/.well-known/mta-sts.txt` by the Host header (RFC 8461 3.3).

A small application on a port of its own, since it is reached under the names of customers' domains, by anybody and
without sign-in: nothing of the API is to be found there. TLS ends before it; `/ask` tells whoever gets the certificates
for it whether a name is one that policies are served under.

An answer is kept for a second, so that a crowd of senders costs one look-up; names that are not ours too. Look-ups
at a time are bounded, and past that the answer is 503: senders go on with the policy that they have.
"""

import asyncio
import time
from collections import OrderedDict
from typing import Final, Protocol

import structlog
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from postern_common.addresses import parse_domain
from postern_common.errors import Rejected, Temporary
from postern_common.mongo import Document
from postern_common.mta_sts import POLICY_LABEL, WELL_KNOWN, policy_of

KEPT_SECONDS: Final = 1.0
MAX_KEPT: Final = 10_000
MAX_LOOKUPS: Final = 20
# RFC 8461 3.3: senders must not use a cache of HTTP, and one in between would serve an old policy under a new id.
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger(__name__)
_REQUESTS = Counter(
    "postern_api_policy_requests_total", "Requests for hosted MTA-STS policies.", ["outcome"]
)  # served | unknown | busy


class Policies(Protocol):
    """Where policies are; in the service `store.ServedPolicies`."""

    async def of(self, name: str) -> Document | None:
        """The policy of a verified domain, if one is hosted."""


class PolicyCache:
    """The texts of policies by the name of the domain, each kept for a moment."""

    def __init__(self, policies: Policies, *, kept_seconds: float = KEPT_SECONDS) -> None:
        self._policies = policies
        self._kept_seconds = kept_seconds
        self._kept: OrderedDict[str, tuple[float, str | None]] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[str | None]] = {}

    async def text(self, name: str) -> str | None:
        """What is served for a domain, None if nothing is; raise `Temporary` where that cannot be told now."""
        kept = self._kept.get(name)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        looking = self._under_way.get(name)
        if looking is None:
            if len(self._under_way) >= MAX_LOOKUPS:
                raise Temporary("as many policies are looked up as may be")
            looking = self._under_way[name] = asyncio.create_task(self._look_up(name))
            looking.add_done_callback(lambda _task: self._under_way.pop(name))
        return await asyncio.shield(looking)

    async def _look_up(self, name: str) -> str | None:
        found = await self._policies.of(name)
        text = None if found is None else policy_of(found).text
        self._kept[name] = time.monotonic() + self._kept_seconds, text
        self._kept.move_to_end(name)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return text


def domain_of(host: str) -> str | None:
    """The domain whose policy is asked for by this Host header; None for any other host."""
    label, _, rest = host.partition(":")[0].lower().removesuffix(".").partition(".")
    if label != POLICY_LABEL:
        return None
    try:
        return parse_domain(rest).ascii
    except Rejected:
        return None


def policy_app(policies: Policies, *, kept_seconds: float = KEPT_SECONDS) -> Starlette:
    """The application; everything but its two paths is 404."""
    cache = PolicyCache(policies, kept_seconds=kept_seconds)

    async def serve(request: Request) -> Response:
        return await _answer(cache, request.headers.get("host", ""), is_question=False)

    async def ask(request: Request) -> Response:
        return await _answer(cache, request.query_params.get("domain", ""), is_question=True)

    return Starlette(routes=[Route(WELL_KNOWN, serve), Route("/ask", ask)])


async def _answer(cache: PolicyCache, host: str, *, is_question: bool) -> Response:
    name = domain_of(host)
    try:
        text = None if name is None else await cache.text(name)
    except Temporary as error:
        log.warning("policy_not_served", reason=error.reason)
        _REQUESTS.labels("busy").inc()
        return PlainTextResponse("try again later\n", status_code=503, headers={**_HEADERS, "Retry-After": "5"})
    if text is None:
        _REQUESTS.labels("unknown").inc()
        return PlainTextResponse("no policy is served under this name\n", status_code=404, headers=_HEADERS)
    if is_question:
        return PlainTextResponse("yes\n", headers=_HEADERS)
    _REQUESTS.labels("served").inc()
    return PlainTextResponse(text, headers=_HEADERS)
