"""HTTPS to hosts that owners of domains name: certificates are checked, addresses judged, redirects not followed.

The caller resolves the name; each address is judged by the net guard (SPEC R12) just before the connection to that very
address, under the name, so that an answer of the DNS that changes in between gains nothing. What is read is bounded in
time and size. Every way of failing becomes a text that may be shown; nothing is raised for what a server does.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx2

from postern_common.netguard import NetGuard
from postern_dns.rules.mta_sts import Fetched

MAX_ADDRESSES: Final = 4
_HEADERS: Final = {"User-Agent": "Postern", "Accept-Encoding": "identity", "Connection": "close"}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of `host`; `target` is the path with its query."""

    method: str
    host: str
    target: str
    headers: Mapping[str, str] | None = None
    body: bytes | None = None


class Https:
    """Makes requests, each over a connection of its own. `context` is the machine's trust unless a test says else."""

    def __init__(
        self, guard: NetGuard, *, port: int = 443, seconds: float = 10.0, context: ssl.SSLContext | None = None
    ) -> None:
        self._guard = guard
        self.port = port
        self._seconds = seconds
        self._context = context or ssl.create_default_context()

    async def ask(self, request: Request, addresses: Sequence[str], *, largest: int) -> Fetched:
        """The answer of the first address that gives one; of a body no more than `largest` octets is read."""
        permitted = [address for address in addresses if self._guard.permits(address)][:MAX_ADDRESSES]
        if not permitted:
            return Fetched(failure="its address is not a public one")
        found = Fetched(failure="nothing answered")
        try:
            async with asyncio.timeout(self._seconds):
                for address in permitted:
                    found = await self._once(request, address, largest)
                    if found.failure is None or not found.is_passing:
                        break
        except TimeoutError:
            return Fetched(failure=f"it did not answer within {self._seconds:g} seconds", is_passing=True)
        return found

    async def _once(self, request: Request, address: str, largest: int) -> Fetched:
        at = f"[{address}]" if ":" in address else address
        url = f"https://{at}:{self.port}{request.target}"
        headers = {**_HEADERS, "Host": request.host, **(request.headers or {})}
        try:
            async with (
                httpx2.AsyncClient(
                    verify=self._context, timeout=self._seconds, trust_env=False, follow_redirects=False
                ) as client,
                client.stream(
                    request.method,
                    url,
                    headers=headers,
                    content=request.body,
                    extensions={"sni_hostname": request.host},
                ) as response,
            ):
                return await _read(response, largest)
        except httpx2.HTTPError as error:
            return _failed(error)


async def _read(response: httpx2.Response, largest: int) -> Fetched:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = b""
    async for part in response.aiter_raw():
        body += part
        if len(body) > largest:
            return Fetched(response.status_code, media_type, failure=f"its answer is longer than {largest} octets")
    return Fetched(response.status_code, media_type, body)


def _failed(error: httpx2.HTTPError) -> Fetched:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fetched(failure=f"its certificate is not valid: {cause.verify_message.rstrip('.')}")
        if isinstance(cause, ssl.SSLError):
            return Fetched(failure="TLS could not be agreed on")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx2.ConnectError):
        return Fetched(failure="no connection could be made", is_passing=True)
    if isinstance(error, httpx2.TimeoutException):
        return Fetched(failure="it did not answer in time", is_passing=True)
    return Fetched(failure="the connection broke, or what came over it was no HTTP", is_passing=True)
