"""Why the server is not reached, in words of whoever runs the agent: with host and port, without what libraries say."""

import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import httpx2

MAX_TEXT: Final = 300
PROBLEM: Final = "urn:postern:problem:"
NOT_POSTERN: Final = "{} answers with status {}, and not as Postern does: check the url, and what stands before Postern"
_PORTS: Final = {"https": 443, "http": 80}
# X509_V_ERR_*, openssl's x509_vfy.h: the authority is the fault, and not the certificate.
_AUTHORITY: Final = frozenset({18, 19, 20, 21})
_CA_FILE: Final = "; where it is of an authority of your own, name that one's certificate in ca_file"


class Peer:
    """The server as people know it, and the proxy that leads there."""

    def __init__(self, url: str, proxy: str | None) -> None:
        self.server = _address(httpx2.URL(url))
        self._proxy = None if proxy is None else f"the proxy {_address(httpx2.URL(proxy))}"
        self._secured = (
            f"{self.server}, or {self._proxy}" if proxy and httpx2.URL(proxy).scheme == "https" else self.server
        )

    @property
    def first(self) -> str:
        """What is connected to."""
        return self._proxy or self.server

    def reason(self, error: Exception) -> str:
        """Why a request came to nothing."""
        if isinstance(error, httpx2.ConnectTimeout):
            return f"no connection to {self.first} came about in time: it is off, or a firewall is between"
        if isinstance(error, httpx2.TimeoutException):
            return f"{self.first} does not answer in time"
        if isinstance(error, httpx2.ProxyError):
            return f"{self.first} refuses to connect to {self.server}: {_line(str(error))}"
        for cause in _causes(error):
            found = self._of_cause(cause)
            if found is not None:
                return found
        if isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError):
            return f"{self.first} broke the connection off"
        return f"{self.server}: {type(error).__name__}"

    def _of_cause(self, cause: BaseException) -> str | None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = _CA_FILE if cause.verify_code in _AUTHORITY else ""
            return f"the certificate of {self._secured} is not trusted: {cause.verify_message.rstrip('.')}{hint}"
        if isinstance(cause, ssl.SSLError):
            why = (cause.reason or "").replace("_", " ").lower()
            return f"no TLS came about with {self._secured}: {why or 'the handshake failed'}; check host and port"
        if isinstance(cause, socket.gaierror):
            return f"the name of {self.first} is not known, or no DNS server answers"
        if isinstance(cause, ConnectionRefusedError):
            return f"{self.first} refuses connections: nothing listens there"
        if isinstance(cause, OSError) and cause.strerror:
            return f"no connection to {self.first}: {cause.strerror}"
        return None


def problem_of(response: httpx2.Response) -> str | None:
    """The reason that Postern gives; None where the answer is of something else."""
    try:
        found: Any = response.json()
        if not str(found["type"]).startswith(PROBLEM):
            return None
        return _line(str(found["detail"]))
    except (ValueError, KeyError, TypeError):
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What led to an error, the nearest first; of several addresses that were tried, each."""
    seen = [error]
    for found in seen:
        yield found
        nearer = found.exceptions if isinstance(found, BaseExceptionGroup) else ()
        seen += [cause for cause in (*nearer, found.__cause__ or found.__context__) if cause and cause not in seen]


def _address(url: httpx2.URL) -> str:
    """Host and port, without an account that may stand before them."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or _PORTS[url.scheme]}"


def _line(text: str) -> str:
    """Somebody else's text, on one line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:MAX_TEXT]
