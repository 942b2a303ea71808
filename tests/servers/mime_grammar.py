"""Messages of every legal and illegal shape, made from a grammar and a seed; all of them end their lines in CR LF.

The same number makes the same message everywhere. `seeds` are further messages to damage, such as other projects' test
data, where they are there.
"""

import base64
from collections.abc import Sequence
from random import Random
from typing import Final

_NAMES: Final = [
    b"Subject", b"SUBJECT", b"From", b"To", b"Cc", b"Date", b"Message-ID", b"MESSAGE-id", b"Received", b"Return-Path",
    b"Content-Type", b"Content-Transfer-Encoding", b"MIME-Version", b"Content-Disposition", b"DKIM-Signature",
    b"Authentication-Results", b"X-Spam", b"X" * 300, b"", b"No colon", b"\xc3\xa9", b"\xff", b"Subject ",
    b"subject\t",
]  # fmt: skip
_CHARSETS: Final = [
    b"utf-8", b"us-ascii", b"iso-8859-1", b"utf-7", b"utf-16", b"idna", b"punycode", b"unicode_escape", b"rot13",
    b"zlib", b"undefined", b"mbcs", b"x-unknown", b"utf-8*en", b"", b"../../etc", b"a" * 200, b"hex", b"\xff",
]  # fmt: skip
_VALUES: Final = [
    b"text", b"", b" ", b"a@far.test", b"<1@far.test>", b"<>", b"<a b@c>", b"text/plain; charset=utf-8",
    b"multipart/mixed", b"multipart/mixed; boundary=", b'multipart/mixed; boundary="',
    b"multipart/mixed; boundary==?x?=", b"message/rfc822", b"base64", b"quoted-printable", b"8bit", b"binary",
    b"x-uuencode", b"attachment; filename*0*=utf-8''%e2%82; filename*1=x", b"\xc3\xa9\xe2\x82\xac", b"\xff\xfe",
    b"(comment (nested", b'"unclosed', b"a\r\n\tfolded", b"a\r\n \r\n \r\n\tb", b";;;;",
    b"Mon, 99 Foo 0000 99:99:99 +9999", b"x" * 990, b"y" * 3000, b"from a by b; now", b"\x01\x7f\x1b[31m", b"=?",
    b"=?=?=",
]  # fmt: skip
_BODIES: Final = [
    b"", b"text\r\n", b"\r\n\r\n\r\n", b".\r\n", b"..\r\n.x\r\n", b"From me\r\n", b"=\r\n=3D=\r\n=ZZ\r\n",
    b"----\r\n", b"--b\r\n", b"\xc3\xa9\xff\x80\r\n", b"begin 644 x\r\n#0V%T\r\n`\r\nend\r\n",
    b"QUFB\r\n!!!!\r\n====\r\n", b"x" * 998 + b"\r\n", b"z" * 5000 + b"\r\n", b"Subject: inner\r\n\r\ninner\r\n",
    b" \r\n", b"\t \r\n", b"-- \r\nsignature\r\n", b"a" + b" " * 70 + b"\r\n",
]  # fmt: skip


def message(seed: int, seeds: Sequence[bytes] = ()) -> bytes:
    """The message of this number."""
    random = Random(seed)
    if seeds and random.random() < 0.25:
        made = random.choice(seeds)
        for _ in range(random.choice([0, 1, 2, 5, 20])):
            made = _mutated(random, made)
    else:
        made = _entity(random, 0)
        while random.random() < 0.3:
            made = _mutated(random, made)
    return with_line_ends(made)


def with_line_ends(octets: bytes) -> bytes:
    """The same as SMTP can carry it: CR and LF only together, no NUL, and a line end at the end."""
    lines = octets.replace(b"\0", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    made = b"\r\n".join(line[:60_000] for line in lines)
    return made if made.endswith(b"\r\n") else made + b"\r\n"


def _entity(random: Random, depth: int) -> bytes:
    """Headers and a body, which may hold further entities."""
    fields = [_field(random) for _ in range(random.choice([0, 1, 3, 6, 12]))]
    if random.random() < 0.02:
        fields += [b"Received: from a by b; now\r\n"] * random.choice([99, 100, 101, 150])
    if depth < 30 and random.random() < (0.35 if depth == 0 else 0.5):
        boundary = random.choice([b"b", b"--", b"=_x", b"a" * 70, b"q q", b"b'", b""])
        fields.append(b'Content-Type: multipart/mixed;\r\n\tboundary="' + boundary + b'"\r\n')
        parts = [_entity(random, depth + 1) for _ in range(random.choice([0, 1, 1, 2]))]
        body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
        body += random.choice([b"--" + boundary + b"--\r\n", b"", b"--" + boundary])
    else:
        body = b"".join(random.choice(_BODIES) for _ in range(random.choice([0, 1, 2, 6, 20])))
    return b"".join(fields) + (b"\r\n" if random.random() < 0.9 else b"") + body


def _field(random: Random) -> bytes:
    name, value = random.choice(_NAMES), random.choice(_VALUES)
    if random.random() < 0.3:
        value = b"\r\n ".join(_encoded_word(random) for _ in range(random.choice([1, 1, 2, 5])))
    colon = b": " if random.random() < 0.9 else random.choice([b":", b" : ", b":\t", b"", b":\r\n "])
    return name + colon + value + b"\r\n"


def _encoded_word(random: Random) -> bytes:
    """RFC 2047, mostly wrong."""
    text = random.choice([b"caf\xc3\xa9", b"\xff\xfe\0x", b"", b"=?=", b"\\x0d\\x0a", b"a" * 80, b"\r\nX: y"])
    coded = base64.b64encode(text) if random.random() < 0.5 else text.replace(b" ", b"_").replace(b"\xc3", b"=C3")
    if random.random() < 0.3:
        coded = _mutated(random, coded)
    return (
        b"=?"
        + random.choice(_CHARSETS)
        + b"?"
        + random.choice([b"b", b"q", b"B", b"Q", b"x", b""])
        + b"?"
        + coded
        + b"?="
    )


def _mutated(random: Random, octets: bytes) -> bytes:
    at = random.randrange(len(octets) + 1)
    end = min(len(octets), at + random.choice([0, 1, 4, 40]))
    put = random.choice(
        [
            b"",
            bytes([random.randrange(256)]),
            octets[at:end] * 2,
            b"\r\n",
            b"\r\n\r\n",
            b"\r\n.",
            b":",
            b"=?",
            b'"',
            b"\xe2\x80",
        ]
    )
    return octets[:at] + put + octets[end:]
