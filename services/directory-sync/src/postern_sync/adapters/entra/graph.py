"""Microsoft Graph over HTTPS: one question at a time, patient with throttling, never elsewhere than where Graph is.

Every answer is looked at. 429, 503 and 504 wait as long as Graph says, within bounds; a 401 renews the token once.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx2
import structlog

from postern_sync.adapters.entra.token import Tokens
from postern_sync.source import SourceFailed

Json = dict[str, Any]
Alive = Callable[[], None]
FaultKind = Literal["permission", "expired", "not_found", "refused", "unavailable", "foreign", "garbled"]
TIMEOUT: Final = httpx2.Timeout(60.0, connect=10.0)
_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504, 509})
_EXPIRED: Final = frozenset({"syncstatenotfound", "syncstateinvalid", "resyncrequired"})
_MAX_TEXT: Final = 300

log = structlog.get_logger(__name__)


class GraphFault(Exception):
    """An answer that is of no use. `expired` says that a link is of no use any more; `message` is public text."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"graph_{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a question is put, how long a pause may be, and how long all pauses of one question together."""

    attempts: int = 8
    pause_seconds: float = 1.0
    longest_seconds: float = 300.0
    total_seconds: float = 900.0


_NAP: Final = 1.0
HURRY: Final = Patience(attempts=2, longest_seconds=3.0, total_seconds=3.0)


def _always() -> None:
    return


class Graph:
    """Graph for one application. Use as a context manager."""

    def __init__(
        self,
        url: str,
        tokens: Tokens,
        *,
        ca_file: Path | None = None,
        patience: Patience | None = None,
        alive: Alive = _always,
    ) -> None:
        self._base = httpx2.URL(url)
        self._tokens = tokens
        self._patience = patience or Patience()
        self._alive = alive
        verify = ssl.create_default_context(cafile=str(ca_file)) if ca_file is not None else True
        self._client = httpx2.AsyncClient(verify=verify, timeout=TIMEOUT, trust_env=False, follow_redirects=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()
        self._tokens.close()

    def address(self, path: str, **params: str) -> str:
        """Where a question is put: `path` below Graph's base, with its parameters (`select` for `$select`)."""
        query = {name if name == "ConsistencyLevel" else f"${name}": value for name, value in params.items()}
        return str(self._base.copy_with(path=self._base.path.rstrip("/") + path).copy_merge_params(query))

    async def get(
        self, address: str, headers: Mapping[str, str] | None = None, patience: Patience | None = None
    ) -> Json:
        """Put a question; its answer. Raises `GraphFault`, and `SourceFailed` where no token is given."""
        return await self._ask("GET", address, headers or {}, None, patience or self._patience)

    async def post(self, address: str, body: Json) -> Json:
        """Put several questions at once, as `$batch` takes them."""
        return await self._ask("POST", address, {}, body, self._patience)

    async def pause(self, seconds: float) -> None:
        """Wait, and look now and then whether that is still wanted."""
        until = asyncio.get_running_loop().time() + seconds
        while (left := until - asyncio.get_running_loop().time()) > 0:
            self._alive()
            await asyncio.sleep(min(left, _NAP))

    async def _ask(
        self, method: str, address: str, headers: Mapping[str, str], body: Json | None, patience: Patience
    ) -> Json:
        url = self._own(address)
        attempt, waited, renewed, renew = 0, 0.0, False, False
        while True:
            self._alive()
            attempt += 1
            response = await self._once(method, url, headers, body, renew=renew)
            renew = False
            if response is not None and response.status_code == 401 and not renewed:
                renewed = renew = True
                attempt -= 1
                continue
            if response is not None and response.status_code not in _BUSY:
                return _judged(response)
            pause = _pause(response, attempt, patience)
            if attempt >= patience.attempts or waited + pause > patience.total_seconds:
                raise GraphFault("unavailable", _busy_text(response))
            log.info("graph_waits", seconds=round(pause, 1), status=response.status_code if response else None)
            await self.pause(pause)
            waited += pause

    async def _once(
        self, method: str, url: httpx2.URL, headers: Mapping[str, str], body: Json | None, *, renew: bool
    ) -> httpx2.Response | None:
        """One request with its token; None where the connection failed."""
        try:
            token = await self._tokens.get(renew=renew)
        except SourceFailed as error:
            if error.step != "connect":
                raise
            log.info("sign_in_failed", reason=error.message)
            return None
        try:
            allowed = {**headers, "Authorization": f"Bearer {token}"}
            return await self._client.request(method, url, headers=allowed, json=body)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            log.info("graph_connection_failed", reason=type(error).__name__)
            return None

    def _own(self, address: str) -> httpx2.URL:
        """The address, which a link of an answer may have named: a token goes to Graph and nowhere else."""
        try:
            url = httpx2.URL(address)
        except httpx2.InvalidURL:
            raise GraphFault("foreign", "A link of an answer cannot be read.") from None
        is_same = (url.scheme, url.host, url.port) == (self._base.scheme, self._base.host, self._base.port)
        if not is_same or url.userinfo or not url.path.startswith(self._base.path.rstrip("/") + "/"):
            raise GraphFault("foreign", "A link of an answer leads away from Microsoft Graph; it was not followed.")
        return url


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by a `Retry-After` header: a number or a date (RFC 9110 10.2.3)."""
    if value is None:
        return None
    text = value.strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp())


def error_of(body: object) -> tuple[str, str]:
    """Code and text of an error's body."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", ""
    code, text = str(error.get("code") or ""), str(error.get("message") or "")
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return code, plain[:_MAX_TEXT]


def fault_of(status: int, body: object) -> GraphFault:
    """What a status other than success means."""
    code, text = error_of(body)
    if status == 410 or code.lower() in _EXPIRED:
        return GraphFault("expired", "The place where reading was to go on is not known any more.")
    if status == 401:
        return GraphFault("permission", "Microsoft Graph refuses the token: was the application's consent withdrawn?")
    if status == 403:
        return GraphFault("permission", "Microsoft Graph refuses: a permission or the admin's consent is missing.")
    if status == 404:
        return GraphFault("not_found", "Microsoft Graph does not know what was asked for.")
    if status in _BUSY:
        return GraphFault("unavailable", "Microsoft Graph is too busy to answer.")
    return GraphFault("refused", f"Microsoft Graph refuses the question: {text or status}")


def failed(fault: GraphFault, *, refused: str) -> SourceFailed:
    """As the run's end; `refused` is the step at which a question can be refused for what it says."""
    steps = {"permission": "permission", "refused": refused}
    return SourceFailed(steps.get(fault.kind, "connect"), fault.message)


def _pause(response: httpx2.Response | None, attempt: int, patience: Patience) -> float:
    longest = patience.longest_seconds
    told = retry_after(response.headers.get("Retry-After"), datetime.now(UTC)) if response is not None else None
    if told is not None:  # a little later, so that many do not come at the same moment
        return min(told, longest) + random.uniform(0, patience.pause_seconds)
    return min(patience.pause_seconds * 2.0 ** (attempt - 1), longest) * random.uniform(0.5, 1.0)


def _judged(response: httpx2.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.status_code != 200:
        raise fault_of(response.status_code, body)
    if not isinstance(body, dict):
        raise GraphFault("garbled", "Microsoft Graph's answer cannot be read.")
    return body


def _busy_text(response: httpx2.Response | None) -> str:
    if response is None:
        return "The connection to Microsoft Graph failed again and again."
    return f"Microsoft Graph was too busy to answer, again and again (HTTP {response.status_code})."
