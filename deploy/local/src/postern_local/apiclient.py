"""A caller of Postern's HTTP API: bearer token, problem details turned into words, patience where it is asked for.

With `patience` a call that finds nobody, or 503, is repeated until that many seconds have passed; a POST carries an
`Idempotency-Key`, so that a repetition does nothing twice.
"""

import time
import uuid
from typing import Any, Self

import httpx2

from postern_local.faults import StackFault

_PAUSE_SECONDS = 0.5
_STILL_RUNNING = "idempotency-in-progress"


class ApiRefused(StackFault):
    """The API answered with a problem (RFC 9457)."""

    def __init__(self, method: str, path: str, status: int, problem: dict[str, Any]) -> None:
        details = "; ".join(f"{item.get('pointer')}: {item.get('message')}" for item in problem.get("errors") or [])
        text = problem.get("detail") or problem.get("title") or "no details"
        super().__init__(f"{method} {path} answered {status} {problem.get('code', '')}: {text} {details}".rstrip())
        self.status = status
        self.code = problem.get("code")
        self.problem = problem


class Api:
    """Calls below one base URL; `http` is the client itself, for tests that look at whole responses."""

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0, patience: float = 0.0) -> None:
        self.url = url
        self.patience = patience
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def signed_in(self, login: str, password: str) -> "Api":
        """A caller with the token of a fresh sign-in."""
        answer = self.post("/v1/auth/sign-in", {"login": login, "password": password})
        return Api(self.url, answer["token"], patience=self.patience)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One request; the JSON of its answer. Raises ApiRefused on a problem, StackFault when nobody answers."""
        if method == "POST" and self.patience:
            headers = {"Idempotency-Key": uuid.uuid4().hex, **headers}
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return self._once(method, path, body, headers)
            except StackFault as fault:
                passing = not isinstance(fault, ApiRefused) or fault.status == 503 or fault.code == _STILL_RUNNING
                if not passing or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def _once(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        try:
            answer = self.http.request(method, path, json=body, headers=headers)
        except httpx2.HTTPError as error:
            raise StackFault(f"{method} {path}: {type(error).__name__}") from error
        if answer.is_error:
            raise ApiRefused(method, path, answer.status_code, _json_object(answer))
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        """Read."""
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        """Create or do."""
        return self.call("POST", path, body)

    def change(self, method: str, path: str, body: Any = None) -> Any:
        """PUT, PATCH or DELETE of what is there now (`If-Match` with its present ETag)."""
        try:
            now = self.http.get(path)
        except httpx2.HTTPError as error:
            raise StackFault(f"GET {path}: {type(error).__name__}") from error
        if now.is_error:
            raise ApiRefused("GET", path, now.status_code, _json_object(now))
        return self.call(method, path, body, **{"If-Match": now.headers["etag"]})


def _json_object(answer: httpx2.Response) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
