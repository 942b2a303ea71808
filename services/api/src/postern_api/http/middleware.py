"""Around every request: an id and a trace, bounds on its body and on how many there are, safe headers, and an answer
whatever fails. HEAD is GET without the body (RFC 9110 9.3.2), on every path.
"""

import asyncio
import re
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postern_api.http import problems
from postern_common import telemetry
from postern_common.errors import Rejected, Temporary
from postern_common.ids import new_id

log = structlog.get_logger(__name__)

_REQUESTS = Counter("postern_api_requests_total", "Answered requests.", ["method", "status"])  # status: 2xx 3xx 4xx 5xx
_SECONDS = Histogram("postern_api_request_duration_seconds", "Time to answer.", ["method"])
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}")

NOTHING_ALLOWED: Final = "default-src 'none'; frame-ancestors 'none'"
_SAFE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


BODY_SECONDS: Final = 30.0
UPLOAD_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a body may be, and in which time it must be there, where that is not `BODY_SECONDS`."""

    octets: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Uploads:
    """The paths that take files: `paths` are patterns of whole paths, for POST."""

    paths: tuple[re.Pattern[str], ...]
    bounds: Bounds


class Surroundings:
    """Outermost layer of the application; nothing passes it without an answer."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        max_requests: int,
        strict_transport: bool,
        uploads: Uploads | None = None,
    ) -> None:
        self._app = app
        self._bounds = Bounds(max_body_bytes)
        self._uploads = uploads
        self._max_requests = max_requests
        self._strict_transport = strict_transport
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("evt").removeprefix("evt_")
        with telemetry.traced(headers.get("traceparent")) as traceparent, telemetry.bind(request_id=request_id):
            is_head = scope["method"] == "HEAD"
            answer = _Answer(send, self._headers(request_id, traceparent), is_head=is_head)
            inner = {**scope, "method": "GET"} if is_head else scope
            started = time.monotonic()
            self._requests += 1
            try:
                await self._guarded(inner, receive, answer, headers)
            finally:
                self._requests -= 1
            _log(scope["method"], inner, answer.status, time.monotonic() - started)

    async def _guarded(self, scope: Scope, receive: Receive, answer: "_Answer", headers: Headers) -> None:
        bounds = self._bounds_of(scope)
        try:
            if self._requests > self._max_requests and scope["path"] != "/livez":
                raise Temporary("as many requests at once as may be")
            length = headers.get("content-length", "0")
            if length.isascii() and length.isdigit() and int(length[:20]) > bounds.octets:
                raise _too_large(bounds.octets)
            await self._app(scope, _bounded(receive, bounds), answer.send)
        except Exception as error:
            if answer.status:
                log.error("failed_after_answer_began", exc_info=error)
                return
            await _response_to(error)(scope, receive, answer.send)

    def _bounds_of(self, scope: Scope) -> Bounds:
        uploads = self._uploads
        if uploads is not None and scope["method"] == "POST" and any(p.fullmatch(scope["path"]) for p in uploads.paths):
            return uploads.bounds
        return self._bounds

    def _headers(self, request_id: str, traceparent: str) -> dict[str, str]:
        added = {**_SAFE, "X-Request-Id": request_id, "traceparent": traceparent}
        if self._strict_transport:
            added["Strict-Transport-Security"] = "max-age=31536000"
        return added


class _Answer:
    """Passes an answer on with the headers that all have, and remembers its status."""

    def __init__(self, send: Send, added: dict[str, str], *, is_head: bool) -> None:
        self._send = send
        self._added = added
        self._is_head = is_head
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send one part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=_as_scope(message))
            for name, value in self._added.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            headers.setdefault("Content-Security-Policy", NOTHING_ALLOWED)
        elif self._is_head:
            message = {**message, "body": b""}
        await self._send(message)


def _as_scope(message: Message) -> MutableMapping[str, Any]:
    message.setdefault("headers", [])
    return message


def _bounded(receive: Receive, bounds: Bounds) -> Receive:
    """Reads a body that is no larger than it may be, and is there in time."""
    taken, is_whole = 0, False
    seconds = BODY_SECONDS if bounds.seconds is None else bounds.seconds
    end = asyncio.get_running_loop().time() + seconds

    async def read() -> Message:
        nonlocal taken, is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError:
            text = f"The body was not there within {seconds:.0f} seconds."
            raise Rejected("request-timeout", text, status=408) from None
        taken += len(message.get("body", b""))
        if taken > bounds.octets:
            raise _too_large(bounds.octets)
        is_whole = not message.get("more_body", False)
        return message

    return read


def _too_large(limit: int) -> Rejected:
    return Rejected("body-too-large", f"A request's body may have {limit} octets at most.", status=413)


def _response_to(error: Exception) -> Any:
    if isinstance(error, Rejected):
        return problems.from_rejected(error)
    if isinstance(error, Temporary):
        return problems.from_temporary(error)
    return problems.from_unknown(error)


def _log(method: str, scope: Scope, status: int, seconds: float) -> None:
    method = method if method in _METHODS else "other"
    route = getattr(scope.get("route"), "path", None)
    _REQUESTS.labels(method=method, status=f"{status // 100}xx").inc()
    _SECONDS.labels(method=method).observe(seconds)
    log.info("request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 1))
