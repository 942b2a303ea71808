"""The Received line that we add, the hops that others added, and what the trace shows of a header section.

The scan looks at the header section only, bounded by the caller, and never fails: a header is somebody else's text.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

MAX_HOPS: Final = 100  # RFC 5321 6.3 asks for at least 100
MAX_SUBJECT: Final = 256  # characters that the trace keeps
MAX_MESSAGE_ID: Final = 255
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]+>")
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Hop:
    """What our own Received line tells about the session (RFC 5321 4.4)."""

    helo: str
    peer_ip: str
    hostname: str
    queue_id: str
    extended: bool  # EHLO rather than HELO
    smtputf8: bool
    tls: tuple[str, str] | None  # version and cipher


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What the trace keeps of a header section, and the number of hops behind the message."""

    subject: str
    message_id: str
    hops: int


def received_line(hop: Hop, recipients: Sequence[str], at: datetime) -> bytes:
    """Our trace line; it names the recipient only where there is one, since others are not his business."""
    literal = f"[IPv6:{hop.peer_ip}]" if ":" in hop.peer_ip else f"[{hop.peer_ip}]"
    tls = f"\r\n\t(using {hop.tls[0]} with cipher {hop.tls[1]})" if hop.tls else ""
    whom = f"\r\n\tfor <{recipients[0]}>" if len(recipients) == 1 else ""
    line = (
        f"Received: from {hop.helo} ({literal}){tls}\r\n"
        f"\tby {hop.hostname} with {_protocol(hop)} id {hop.queue_id}{whom};\r\n"
        f"\t{_date(at.replace(microsecond=0))}\r\n"
    )
    return line.encode("utf-8", "replace")


@lru_cache(maxsize=4)
def _date(second: datetime) -> str:
    """RFC 5322 3.3; many messages share a second."""
    return format_datetime(second)


def _protocol(hop: Hop) -> str:
    """RFC 3848, RFC 6531 4.3."""
    if not hop.extended:
        return "SMTP"
    return ("UTF8SMTP" if hop.smtputf8 else "ESMTP") + ("S" if hop.tls else "")


def header_section(head: bytes) -> bytes | None:
    """The header section at the start of a message; None where it does not end within `head`."""
    if head.startswith(b"\r\n"):
        return b""
    end = head.find(b"\r\n\r\n")
    return head[: end + 2] if end >= 0 else None


def scan_headers(section: bytes) -> HeaderFacts:
    """Count the hops and find the subject and the message id."""
    folded = b"\n" + section.lower()
    return HeaderFacts(
        subject=_decode(_field(section, folded, b"\nsubject:")),
        message_id=_message_id(_field(section, folded, b"\nmessage-id:")),
        hops=folded.count(b"\nreceived:"),
    )


def _field(section: bytes, folded: bytes, name: bytes) -> bytes:
    """The first field of that name, unfolded (RFC 5322 2.2.3); `folded` is `section` behind one octet, in lower
    case.
    """
    start = folded.find(name)
    if start < 0:
        return b""
    start += len(name) - 1
    end = _FIELD_END.search(section, start)
    return section[start : end.start() if end else None].replace(b"\r\n", b"").strip()


def _decode(value: bytes) -> str:
    """Encoded words (RFC 2047) decoded where they can be, anything else as UTF-8 (RFC 6532) or Latin-1."""
    value = value[: 8 * MAX_SUBJECT]
    text = _to_text(value, "utf-8")
    if "=?" in text:
        with suppress(ValueError, LookupError, HeaderParseError):
            words = decode_header(text)
            text = "".join(_to_text(word, set_ or "utf-8") if isinstance(word, bytes) else word for word, set_ in words)
    return _UNPRINTABLE.sub(" ", text)[:MAX_SUBJECT].strip()


def _to_text(value: bytes, charset: str) -> str:
    try:
        return value.decode(charset)
    except (UnicodeError, LookupError):
        return value.decode("latin-1")


def _message_id(value: bytes) -> str:
    found = _MESSAGE_ID.search(value[: 4 * MAX_MESSAGE_ID].decode("latin-1"))
    return found.group()[:MAX_MESSAGE_ID] if found else ""
