"""An authority that the edge trusts as it trusts the system's, and servers' certificates by it or by nobody known."""

import ssl
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from postern_edge.adapters.smtp import verified_context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """An authority that the system trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authorities.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    verified_context.cache_clear()
    yield authority
    verified_context.cache_clear()


class Tls(ssl.SSLContext):
    """A server's TLS; `digest` is the SHA-256 of its public key, as TLSA records with `3 1 1` have it."""

    digest: str


def serving(authority: Any, name: str, not_after: datetime | None = None) -> Tls:
    """TLS with a certificate for a name; the authority's certificate is sent with it."""
    context = Tls(ssl.PROTOCOL_TLS_SERVER)
    issued = authority.issue_cert(name, not_after=not_after)
    own = issued.cert_chain_pems[0].bytes()
    chain = trustme.Blob(b"".join([*(one.bytes() for one in issued.cert_chain_pems), authority.cert_pem.bytes()]))
    with issued.private_key_pem.tempfile() as key, chain.tempfile() as certificates:
        context.load_cert_chain(certificates, key)
    public = x509.load_pem_x509_certificate(own).public_key()
    context.digest = sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    return context
