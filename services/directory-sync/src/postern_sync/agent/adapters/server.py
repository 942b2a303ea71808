"""The server over HTTPS: certificates are checked, redirects are not followed, and every answer is looked at."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from postern_common.telemetry import package_version
from postern_sync.agent.adapters.reasons import NOT_POSTERN, Peer, problem_of
from postern_sync.agent.config import NO_CERTIFICATES, AgentConfig, ConfigFault

Json = dict[str, Any]
_NEW_TOKEN: Final = ("token", "agent_id", "expires_at")
WAIT_SECONDS: Final = 25
TIMEOUT: Final = httpx2.Timeout(60.0, connect=15.0)
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
# Of something that stands before the server: no token is revoked by that, and a path that is unknown there comes back.
_PASSING: Final = frozenset({401, 404})
_LONGEST: Final = 600.0


class Unreachable(Exception):
    """No answer, or none for the moment. `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Refused(Exception):
    """The server does not take this, however often it is sent."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class Revoked(Exception):
    """The token is of no use any more: the agent must be enrolled anew."""


class Server:
    """What the server is asked and told. Use as a context manager."""

    def __init__(
        self, config: AgentConfig, token: str | None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self.token = token
        self._peer = Peer(config.url, config.proxy)
        self._client = httpx2.AsyncClient(
            base_url=config.url,
            verify=_trust(config.ca_file),
            proxy=config.proxy if transport is None else None,
            transport=transport,
            timeout=TIMEOUT,
            trust_env=False,
            follow_redirects=False,
            headers={"X-Postern-Agent": package_version(), "User-Agent": "postern-sync-agent"},
        )

    async def __aenter__(self) -> Self:
        """Nothing is reached yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def enrol(self, code: str) -> Json:
        """Spend the enrolment code on a token."""
        given = {"code": code, "version": package_version()}
        return await self._json("POST", "/v1/agent/enrol", _NEW_TOKEN, json=given)

    async def renew(self) -> Json:
        """A new token; the present one is good until the new one is used."""
        return await self._json("POST", "/v1/agent/token", _NEW_TOKEN)

    async def work(self, busy: list[str], wait: int = WAIT_SECONDS) -> Json:
        """What there is to do."""
        return await self._json(
            "GET", "/v1/agent/work", ("round", "question", "now"), params={"wait": wait, "busy": busy}
        )

    async def begin(self, run_id: str, upload_id: str, known: list[str]) -> Json:
        """Begin a round, or go on with it."""
        given = {"run_id": run_id, "upload_id": upload_id, "known": known}
        return await self._json("POST", "/v1/agent/rounds", ("id", "base", "next_page"), json=given)

    async def put_page(self, round_id: str, number: int, upload_id: str, packed: bytes) -> None:
        """Send a page, packed with gzip."""
        await self._ask(
            "PUT",
            f"/v1/agent/rounds/{round_id}/pages/{number}",
            params={"upload_id": upload_id},
            content=packed,
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )

    async def finish(self, round_id: str, statement: Json) -> None:
        """State that everything was sent."""
        await self._ask("POST", f"/v1/agent/rounds/{round_id}/finish", json=statement)

    async def fail(self, round_id: str, step: str, message: str) -> None:
        """State that the directory cannot be read."""
        await self._ask("POST", f"/v1/agent/rounds/{round_id}/failure", json={"step": step, "message": message})

    async def answer(self, question_id: str, answer: Json) -> None:
        """Answer a question."""
        await self._ask("POST", f"/v1/agent/questions/{question_id}/answer", json=answer)

    async def _send(
        self, token: str | None, method: str, path: str, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx2.Response:
        given = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            return await self._client.request(method, path, headers=given | (headers or {}), **options)
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise Unreachable(self._peer.reason(error)) from None

    async def _json(self, method: str, path: str, names: Sequence[str], **options: Any) -> Json:
        """An answer in which these names stand; something else than Postern may answer with JSON too."""
        response = await self._ask(method, path, **options)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict) or any(name not in found for name in names):
            raise Unreachable(NOT_POSTERN.format(self._peer.server, response.status_code))
        return found

    async def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        token = self.token
        response = await self._send(token, method, path, **options)
        if response.status_code == 401 and token != self.token:  # it was renewed while this was under way
            response = await self._send(self.token, method, path, **options)
        if response.is_success:
            return response
        raise self._refusal(response)

    def _refusal(self, response: httpx2.Response) -> Unreachable | Refused | Revoked:
        status, reason = response.status_code, problem_of(response)
        if response.is_redirect:
            return Refused(status, f"{self._peer.server} redirects; check the url")
        if reason is None:
            told = NOT_POSTERN.format(self._peer.server, status)
            is_passing = status in _BUSY or status in _PASSING
            return Unreachable(told, _retry_after(response)) if is_passing else Refused(status, told)
        if status == 401:  # RFC 9110 15.5.2
            return Revoked()
        if status in _BUSY:
            return Unreachable(f"{self._peer.server} answers with status {status}: {reason}", _retry_after(response))
        return Refused(status, reason)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except ssl.SSLError:
        raise ConfigFault(f"{ca_file}: {NO_CERTIFICATES}") from None
    except OSError as error:
        raise ConfigFault(f"{ca_file}: {error.strerror}") from None


def _retry_after(response: httpx2.Response) -> float | None:
    """RFC 9110 10.2.3: seconds, or a date."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(_LONGEST, float(text[:9]))
    try:
        seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(_LONGEST, max(0.0, seconds))
