"""Messages of every legal shape, signed by DKIM (RFC 6376) with another implementation than any of ours.

The same number makes the same message. A shape that the signer's own check does not take before it is sent is left
out by `signed`, which then gives None.
"""

import functools
from random import Random
from typing import Final

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_SUBJECTS: Final = [
    b" plain", b"no blank", b"\ttab", b" folded\r\n\tonce", b" folded\r\n  \t twice\r\n \r\n end", b" trailing  \t ",
    b"", b" =?utf-8?q?caf=C3=A9?=", b" caf\xc3\xa9", b" \xff\x80", b" a  lot   of    blanks", b" " + b"x" * 990,
]  # fmt: skip
_FIELDS: Final = [
    b"To: ann@example.test\r\n", b"TO:ann@example.test,\r\n bob@example.test\r\n", b"Cc: a@b\r\n", b"CC: c@d\r\n",
    b"Message-ID: <1@far.test>\r\n", b"Date: Mon, 02 Jan 2006 15:04:05 +0000\r\n", b"X-Empty:\r\n", b"X-Blank: \r\n",
    b"Received: from a by b; now\r\n", b"Return-Path: <a@far.test>\r\n", b"MIME-Version: 1.0\r\n",
    b"x-a: 1\r\nX-A: 2\r\n", b'Content-Type: multipart/mixed;\r\n\tboundary="b"\r\n',
    b"Content-Transfer-Encoding: 8bit\r\n", b"Authentication-Results: far.test; spf=pass\r\n",
]  # fmt: skip
_LINES: Final = [
    b"text\r\n", b"\r\n", b".\r\n", b"..\r\n", b".dot\r\n", b"...\r\n", b" \r\n", b"\t\r\n", b"trailing \t \r\n",
    b"a  b\tc\r\n", b"From there\r\n", b"--b\r\n", b"--b--\r\n", b"caf\xc3\xa9 \xff\r\n", b"x" * 998 + b"\r\n",
    b"y" * 1200 + b"\r\n", b"=3D=\r\n", b" leading\r\n", b"\x01\x7f\r\n",
]  # fmt: skip
_ENDS: Final = [b"", b"", b"\r\n", b"\r\n\r\n\r\n", b" \r\n\t\r\n", b"no line end"]


@functools.cache
def _keys() -> tuple[bytes, bytes]:
    """A private key (PEM) and the TXT record of its public one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # short, so that many are signed quickly
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])


def verifies(message: bytes) -> bool:
    """Whether the topmost signature is good."""
    record = _keys()[1]
    return bool(dkim.verify(message, dnsfunc=lambda _name, timeout=5: record, minkey=1024))


def sign(message: bytes, canonicalize: tuple[bytes, bytes], names: list[bytes], *, length: bool = False) -> bytes:
    """The message behind its signature, which covers the fields of these names (RFC 6376 3.4, 3.5)."""
    private = _keys()[0]
    field: bytes = dkim.sign(
        message, b"s1", b"far.test", private, canonicalize=canonicalize, include_headers=names, length=length
    )
    return field + message


def signed(seed: int) -> bytes | None:
    """The signed message of this number as SMTP carries it, or None for a shape that its signer cannot check."""
    random = Random(seed)
    fields = [b"From: a@far.test\r\n", b"Subject:" + random.choice(_SUBJECTS) + b"\r\n"]
    fields += random.sample(_FIELDS, random.randrange(8))
    random.shuffle(fields)
    message = b"".join(fields)
    if random.random() < 0.92:  # else it ends with its headers
        message += b"\r\n" + b"".join(random.choices(_LINES, k=random.choice([0, 0, 1, 3, 10]))) + random.choice(_ENDS)
    canonicalize = (random.choice([b"simple", b"relaxed"]), random.choice([b"simple", b"relaxed"]))
    names = [name for name in (b"from", b"subject", b"to", b"cc", b"x-a", b"date") if random.random() < 0.7]
    names = [*names, *([] if b"from" in names else [b"from"]), *names[:1]]
    try:
        message = sign(message, canonicalize, names, length=random.random() < 0.2)
    except dkim.DKIMException:
        return None
    if not message.endswith(b"\r\n"):
        message += b"\r\n"  # DATA ends with a line end in any case; DKIM signs as if it had been there
    return message if verifies(message) else None
