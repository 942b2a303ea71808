"""Around every request: an id and a trace, a cap on the body, safe headers, and an answer whatever fails."""

import re
import time
from collections.abc import MutableMapping
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


class TooLarge(Rejected):
    """The body passes the limit while it is read."""


class Surroundings:
    """Outermost layer of the application; nothing passes it without an answer."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, strict_transport: bool) -> None:
        self._app = app
        self._max_body = max_body_bytes
        self._strict_transport = strict_transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("evt").removeprefix("evt_")
        with telemetry.traced(headers.get("traceparent")) as traceparent, telemetry.bind(request_id=request_id):
            answer = _Answer(send, self._headers(request_id, traceparent))
            started = time.monotonic()
            await self._guarded(scope, receive, answer, headers)
            _log(scope, answer.status, time.monotonic() - started)

    async def _guarded(self, scope: Scope, receive: Receive, answer: "_Answer", headers: Headers) -> None:
        limit = self._max_body
        try:
            length = headers.get("content-length", "0")
            if length.isdigit() and int(length) > limit:
                raise _too_large(limit)
            await self._app(scope, _capped(receive, limit), answer.send)
        except Exception as error:
            if answer.status:
                log.error("failed_after_answer_began", exc_info=error)
                return
            await _response_to(error)(scope, receive, answer.send)

    def _headers(self, request_id: str, traceparent: str) -> dict[str, str]:
        added = {**_SAFE, "X-Request-Id": request_id, "traceparent": traceparent}
        if self._strict_transport:
            added["Strict-Transport-Security"] = "max-age=31536000"
        return added


class _Answer:
    """Passes an answer on with the headers that all have, and remembers its status."""

    def __init__(self, send: Send, added: dict[str, str]) -> None:
        self._send = send
        self._added = added
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
        await self._send(message)


def _as_scope(message: Message) -> MutableMapping[str, Any]:
    message.setdefault("headers", [])
    return message


def _capped(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def read() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise _too_large(limit)
        return message

    return read


def _too_large(limit: int) -> TooLarge:
    return TooLarge("body-too-large", f"A request's body may have {limit} octets at most.", status=413)


def _response_to(error: Exception) -> Any:
    if isinstance(error, Rejected):
        return problems.from_rejected(error)
    if isinstance(error, Temporary):
        return problems.from_temporary(error)
    return problems.from_unknown(error)


def _log(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = getattr(scope.get("route"), "path", None)
    _REQUESTS.labels(method=method, status=f"{status // 100}xx").inc()
    _SECONDS.labels(method=method).observe(seconds)
    log.info("request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 1))
