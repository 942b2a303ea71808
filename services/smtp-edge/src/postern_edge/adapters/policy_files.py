"""Fetches MTA-STS policies over HTTPS (RFC 8461 3.3).

The certificate must name the policy host, redirects are not followed, and answers are bounded in size and time. The
name comes from whoever writes to or from a domain, so it leads to public addresses alone: each is judged right before
the connection, which goes to that very address (SPEC R12).
"""

import asyncio
import ssl
from typing import Final

import httpx2

from postern_common.errors import Temporary
from postern_common.mta_sts import LARGEST_POLICY, MEDIA_TYPE, POLICY_LABEL, WELL_KNOWN
from postern_common.netguard import NetGuard
from postern_edge.adapters.resolver import NoSuchName, Resolver
from postern_edge.rules.mta_sts import Malformed, StsPolicy, parse_policy
from postern_edge.rules.tls_policy import TlsFault

LONGEST_SECONDS: Final = 60.0  # RFC 8461 3.3
STEP_SECONDS: Final = 15.0
MOST_ADDRESSES: Final = 3


class NotFetched(Exception):
    """There is no policy to be had; `fault` says why (RFC 8460 4.3.2.2)."""

    def __init__(self, fault: TlsFault) -> None:
        super().__init__(fault.reason_code)
        self.fault = fault


class PolicyFiles:
    """Fetches policies; `port` is 443 but in tests."""

    def __init__(self, resolver: Resolver, guard: NetGuard, port: int) -> None:
        self._resolver = resolver
        self._guard = guard
        self._port = port

    async def fetch(self, domain: str) -> StsPolicy:
        """The policy that a domain serves now. Raises `NotFetched`."""
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                text = await self._text(f"{POLICY_LABEL}.{domain}")
        except TimeoutError as error:
            raise _no_fetch("timed-out") from error
        try:
            return parse_policy(text)
        except Malformed as error:
            raise NotFetched(TlsFault("sts-policy-invalid", str(error))) from error

    async def _text(self, host: str) -> str:
        fault = _no_fetch("address-not-allowed")
        for address in (await self._addresses(host))[:MOST_ADDRESSES]:
            try:
                return await self._ask(host, address)
            except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
                fault = NotFetched(_fault_of(error))
        raise fault

    async def _addresses(self, host: str) -> list[str]:
        try:
            found = await self._resolver.addresses(host)
        except NoSuchName as error:
            raise _no_fetch("no-such-host") from error
        except Temporary as error:
            raise _no_fetch("host-not-resolved") from error
        return [address for address in found if self._guard.permits(address)]

    async def _ask(self, host: str, address: str) -> str:
        place = f"[{address}]" if ":" in address else address
        # One of its own: the client makes it offer HTTP in the handshake, which no mail server should be offered.
        trust = await asyncio.to_thread(ssl.create_default_context)
        async with (
            httpx2.AsyncClient(verify=trust, timeout=STEP_SECONDS, trust_env=False, follow_redirects=False) as client,
            client.stream(
                "GET",
                f"https://{place}:{self._port}{WELL_KNOWN}",
                headers={"Host": host, "Accept-Encoding": "identity", "User-Agent": "postern-edge"},
                extensions={"sni_hostname": host},  # the name that the certificate must have
            ) as response,
        ):
            if response.status_code != 200:
                raise _no_fetch(f"http-{response.status_code}")
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind != MEDIA_TYPE:
                raise _no_fetch("not-text-plain")
            octets = bytearray()
            async for piece in response.aiter_raw():
                octets += piece
                if len(octets) > LARGEST_POLICY:
                    raise _no_fetch("too-large")
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotFetched(TlsFault("sts-policy-invalid", "not-utf-8")) from error


def _no_fetch(reason: str) -> NotFetched:
    return NotFetched(TlsFault("sts-policy-fetch-error", reason))


def _fault_of(error: Exception) -> TlsFault:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TlsFault("sts-webpki-invalid", f"openssl-{cause.verify_code}")
        cause = cause.__cause__ or cause.__context__
    return TlsFault("sts-policy-fetch-error", type(error).__name__)
