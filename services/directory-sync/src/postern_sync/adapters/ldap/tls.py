"""Encryption of a connection to a directory: whose certificate is trusted, and why one is not (SPEC L1).

The name that the certificate must bear is the one that the customer typed, whatever address it led to.
"""

import socket
import ssl
import warnings
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from postern_common.directory_documents import LdapDocument
from postern_sync.adapters.ldap.faults import LOST, SILENT, Fault, LdapFault

# X509_V_ERR_*: openssl's x509_vfy.h
_REASONS: Final = {
    9: "The certificate is not valid yet.",
    10: "The certificate has expired.",
    18: "The certificate is signed by itself: give it as the authority to trust, or pin its fingerprint.",
    19: "The certificate's authority is not trusted: give the authority's certificate.",
    20: "The certificate's authority is not trusted: give the authority's certificate.",
    21: "The certificate's authority is not trusted: the server does not send its whole chain.",
    23: "The certificate was revoked.",
    62: "The certificate is for another name than the host given here.",
    64: "The certificate is for another address than the host given here.",
}
_PINNED: Final = "The certificate is another one than the pinned one."
_MAX_NAMES: Final = 10


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates are taken: of the system's authorities, of the customer's, one pinned, or any."""

    authorities: str | None
    fingerprint: str | None
    is_checked: bool

    @classmethod
    def of(cls, ldap: LdapDocument) -> "Trust":
        """What a customer's settings say; a fingerprint takes the place of authorities and names."""
        return cls(ldap["ca_certificates"], ldap["fingerprint"], ldap["verify_certificate"])

    def context(self) -> ssl.SSLContext:
        """Settings for a handshake; with a pinned certificate `secure` compares it."""
        try:
            context = ssl.create_default_context(cadata=self.authorities)
        except (ssl.SSLError, ValueError):
            raise LdapFault(_fault("The certificates of authorities cannot be read.")) from None
        if self.fingerprint or not self.is_checked:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


ANY: Final = Trust(None, None, is_checked=False)


def secure(plain: socket.socket, host: str, trust: Trust) -> ssl.SSLSocket:
    """Encrypt a connection, or say why its other end is not trusted."""
    try:
        secured = trust.context().wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        reason = _REASONS.get(error.verify_code, f"The certificate is not trusted: {error.verify_message}.")
        raise LdapFault(_fault(reason)) from None
    except ssl.SSLError as error:
        raise LdapFault(_fault(_failure(error))) from None
    except TimeoutError:
        raise LdapFault(Fault("tls", "tls", SILENT.message)) from None
    except OSError:
        raise LdapFault(Fault("tls", "tls", LOST.message)) from None
    except ValueError:  # a host that can stand in no certificate
        plain.close()
        raise LdapFault(_fault(_REASONS[62])) from None
    if trust.fingerprint and trust.is_checked:
        seen = sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
        if not compare_digest(seen, trust.fingerprint):
            secured.close()
            raise LdapFault(_fault(_PINNED))
    return secured


def describe(secured: ssl.SSLSocket) -> dict[str, Any] | None:
    """The other end's certificate, for people."""
    octets = secured.getpeercert(binary_form=True)
    if octets is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            found = x509.load_der_x509_certificate(octets)
            return {
                "subject": found.subject.rfc4514_string()[:500],
                "issuer": found.issuer.rfc4514_string()[:500],
                "not_before": found.not_valid_before_utc.isoformat(),
                "not_after": found.not_valid_after_utc.isoformat(),
                "names": _names(found),
                "fingerprint": sha256(octets).hexdigest(),
            }
    except ValueError:
        return {"fingerprint": sha256(octets).hexdigest()}


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    return names[:_MAX_NAMES]


def _failure(error: ssl.SSLError) -> str:
    if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return "The server speaks no TLS on this port: choose StartTLS, or the port of LDAPS."
    if error.reason in {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"}:
        return "The server speaks old versions of TLS only; TLS 1.2 or later is needed."
    return "No encrypted connection came about."


def _fault(reason: str) -> Fault:
    return Fault("tls", "tls", reason)
