"""Certificates in settings: authorities to trust, and a client's own with its key."""

import re
import warnings
from datetime import datetime
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import Certificate, load_pem_x509_certificates

from postern_api.http.problems import invalid

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
MAX_CERTIFICATES: Final = 50


def check_authorities(text: str, pointer: str) -> None:
    """Refuse what holds no certificate."""
    _certificates(text, pointer)


def fingerprint(text: str, pointer: str) -> str:
    """A SHA-256 fingerprint in its stored form: lower-case hexadecimal without colons."""
    plain = text.lower().removeprefix("sha256:").removeprefix("sha256=").replace(":", "").replace(" ", "")
    if not _SHA256.fullmatch(plain):
        raise invalid("A SHA-256 fingerprint has 64 hexadecimal digits, with or without colons.", pointer)
    return plain


def client_certificate(text: str, now: datetime, pointer: str) -> datetime:
    """Check a certificate with its key; when it ends."""
    certificate = _certificates(text, pointer)[0]
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise invalid("The private key is locked with a password: give it without.", pointer) from None
    except (ValueError, UnsupportedAlgorithm):
        raise invalid("There is no usable private key beside the certificate.", pointer) from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise invalid("The private key is not that of the first certificate.", pointer)
    ends: datetime = certificate.not_valid_after_utc
    if ends <= now:
        raise invalid("The certificate has ended.", pointer)
    return ends


def _certificates(text: str, pointer: str) -> list[Certificate]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            found = load_pem_x509_certificates(text.encode())
    except ValueError:
        raise invalid("There is no readable certificate in PEM form (-----BEGIN CERTIFICATE-----).", pointer) from None
    if len(found) > MAX_CERTIFICATES:
        raise invalid(f"At most {MAX_CERTIFICATES} certificates are taken.", pointer)
    return found
