"""The certificates that a mail server sent, judged by TLSA records (RFC 7672 3), with `cryptography`.

The TLS library of Python checks no DANE: the handshake goes through unverified, and what the server sent is judged
right after it, before another word is said. DANE-EE needs the server's own certificate alone. For DANE-TA a path is
built to an anchor that the records name: signatures, dates, the right to issue and the depth are checked (RFC 5280 6),
and the names last.
"""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store

from postern_edge.rules.dane import Certificate, Tlsa, anchors, is_named, names_the_server
from postern_edge.rules.tls_policy import TlsFault

LONGEST_PATH: Final = 8
MOST_SENT: Final = 20  # certificates of a server that are looked at

NO_CERTIFICATE: Final = TlsFault("validation-failure", "no-certificate")
NO_MATCH: Final = TlsFault("certificate-not-trusted", "dane-no-match")
NO_PATH: Final = TlsFault("certificate-not-trusted", "dane-no-path-to-anchor")
EXPIRED: Final = TlsFault("certificate-expired", "dane-path-out-of-date")
MISNAMED: Final = TlsFault("certificate-host-mismatch", "dane-name-mismatch")
_WORDS: Final = {
    NO_CERTIFICATE: "the mail server's certificate cannot be read",
    NO_MATCH: "the mail server's certificate matches no TLSA record",
    NO_PATH: "the mail server's certificate does not lead to the authority that its TLSA records name",
    EXPIRED: "a certificate of the mail server or its authority is out of date",
    MISNAMED: "the mail server's certificate is for another name",
}


class NotVouchedFor(Exception):
    """No TLSA record vouches for the server; `str` may be shown."""

    def __init__(self, fault: TlsFault) -> None:
        super().__init__(_WORDS[fault])
        self.fault = fault


def sent_certificates(connection: ssl.SSLObject) -> list[bytes]:
    """What the server sent, its own certificate first, as DER and unverified."""
    # Python 3.13 has `SSLObject.get_unverified_chain`; before, only the object within has it.
    chain = connection._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in chain[:MOST_SENT]]


def check_dane(sent: Sequence[bytes], records: Sequence[Tlsa], names: Sequence[str], now: datetime) -> None:
    """Raise `NotVouchedFor` unless a usable record vouches for the server whose certificates these are."""
    if not sent:
        raise NotVouchedFor(NO_CERTIFICATE)
    leaf = _certificate(sent[0])
    if leaf is None:
        raise NotVouchedFor(NO_CERTIFICATE)
    if names_the_server(records, leaf):
        return
    issuers = [one for one in map(_certificate, sent[1:]) if one is not None]
    trusted = [one.der for one in map(_certificate, anchors(records, issuers)) if one is not None]
    if not trusted:
        raise NotVouchedFor(NO_MATCH)
    if not is_named(_path_names(leaf, issuers, trusted, now), names):
        raise NotVouchedFor(MISNAMED)


def _certificate(der: bytes) -> Certificate | None:
    """None for what is no certificate, or has a key that nobody knows."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except Exception:  # noqa: BLE001 - whatever a stranger's octets break in the parser, they are no certificate
        return None
    return Certificate(der, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _path_names(
    leaf: Certificate, issuers: Sequence[Certificate], trusted: Sequence[bytes], now: datetime
) -> list[str]:
    """The DNS names of a server whose certificate leads to one of the anchors; raises `NotVouchedFor`.

    One search for all anchors: the library bounds what a search may cost, however the certificates refer to each other.
    """
    try:
        verifier = (
            PolicyBuilder()
            .store(Store([x509.load_der_x509_certificate(anchor) for anchor in trusted]))
            .time(now.astimezone(UTC))
            .max_chain_depth(LONGEST_PATH)
            .extension_policies(ca_policy=_AUTHORITY, ee_policy=_SERVER)
            .build_client_verifier()
        )
        found = verifier.verify(
            x509.load_der_x509_certificate(leaf.der), [x509.load_der_x509_certificate(one.der) for one in issuers]
        )
    except Exception as error:  # also what a stranger's octets break in the parser: other exchangers are to be tried
        raise NotVouchedFor(EXPIRED if "not valid at validation time" in str(error) else NO_PATH) from error
    return [name.value for name in found.subjects or () if isinstance(name, x509.DNSName)]


def _may_issue(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("no authority")


def _may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the key may not sign certificates")


def _may_serve(_policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is None:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usage:
        raise ValueError("the certificate is not for servers")


# Private authorities follow RFC 5280, not what browsers want of public ones: so only what makes a path safe is asked.
_AUTHORITY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _may_issue)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
)
_SERVER: Final = ExtensionPolicy.permit_all().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_serve)
