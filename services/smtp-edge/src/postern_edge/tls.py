"""The listener's certificate, replaced live when its files change.

Kubernetes swaps mounted secrets under a running process. A new pair is read into a context of its own and replaces
the old one only when it is whole: certificate and key belong together and the certificate has not ended. Sessions
keep the context that they began with.
"""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509

from postern_edge import metrics

log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


class CertificateError(Exception):
    """The pair of files cannot serve; the text says why, for the operator."""


class CertificateWatch:
    """Holds the TLS context of a port; `context` is the one for the next handshake."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._stamp = self._look()
        self.context = self._load()

    async def run(self, every_seconds: float) -> None:
        """Look for changed files for ever."""
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await asyncio.to_thread(self.reload_if_changed)
            except Exception as error:
                log.error("certificate_refused", exc_info=error)

    def reload_if_changed(self) -> bool:
        """Replace the context if the files changed and are good; True if it was replaced."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            context = self._load()
        except CertificateError as error:
            metrics.CERTIFICATE_RELOADS.labels("refused").inc()
            log.error("certificate_refused", reason=str(error))
            return False
        self._stamp = stamp
        self.context = context
        metrics.CERTIFICATE_RELOADS.labels("replaced").inc()
        log.info("certificate_replaced")
        return True

    def _look(self) -> Stamp:
        try:
            found = [path.stat() for path in (self._certificate, self._key)]
        except OSError as error:
            raise CertificateError(f"cannot read the certificate or its key: {error.strerror}") from error
        return tuple((status.st_mtime_ns, status.st_size, status.st_ino) for status in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            context.load_cert_chain(self._certificate, self._key, password="")  # an encrypted key must not ask
            leaf = x509.load_pem_x509_certificate(self._certificate.read_bytes())
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise CertificateError(f"certificate and key do not serve: {error}") from error
        ends = leaf.not_valid_after_utc
        if ends <= datetime.now(UTC):
            raise CertificateError(f"certificate ended on {ends:%Y-%m-%d}")
        metrics.CERTIFICATE_EXPIRY.set(ends.timestamp())
        return context
