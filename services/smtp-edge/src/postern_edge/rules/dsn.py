"""Delivery status notifications (RFC 3464) as the sender's server can read them: built here, from plain values, to the
last octet.

A notification is `multipart/report` in plain ASCII with CRLF line ends: a text for people, the status for programs,
and of the message its headers, or the whole where the sender asked for that (RET=FULL) and it failed (RFC 3461 4.3).
Headers that are not ASCII are told as they were, in an 8-bit part.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import StrEnum
from typing import Final

from postern_edge.rules.classify import Answer, Outcome, outcome, status

LARGEST_RETURNED: Final = 1024 * 1024  # of a whole message; past it, headers only
LARGEST_HEADERS: Final = 64 * 1024
EXPIRED: Final = "4.4.7"  # RFC 3463 3.5: delivery time expired


class Action(StrEnum):
    """RFC 3464 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """A recipient of the message, and what is told of it."""

    address: str
    orcpt: str | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class Report:
    """All that a notification says. `headers` is the message's header section, `body` the whole message where it is
    returned.
    """

    action: Action
    hostname: str
    message_id: str
    sender: str
    envid: str | None
    arrived_at: datetime
    now: datetime
    retry_until: datetime
    recipients: Sequence[ReportedRecipient]
    headers: bytes
    whole: bytes | None = None


_SUBJECTS: Final = {
    Action.FAILED: "Undelivered mail returned to sender",
    Action.DELAYED: "Your message is delayed; it is still being tried",
    Action.RELAYED: "Your message was handed on",
}
_TEXTS: Final = {
    Action.FAILED: "Your message could not be delivered to the recipients below. It will not be tried again.",
    Action.DELAYED: "Your message could not be delivered to the recipients below so far. You need not send it again:\n"
    "it is tried until {until}.",
    Action.RELAYED: "Your message was handed on to the recipients' mail server, which does not report further.",
}


def build(report: Report) -> bytes:
    """The notification."""
    boundary = f"=_{report.message_id.strip('<>').partition('@')[0]}"
    eight_bit = any(octet > 127 for octet in report.whole or report.headers)
    parts = [_text_part(report), _status_part(report), _original_part(report)]
    lines = b"".join(b"--" + boundary.encode("ascii") + b"\r\n" + part + b"\r\n" for part in parts)
    return _head(report, boundary, eight_bit=eight_bit) + lines + f"--{boundary}--\r\n".encode("ascii")


def _head(report: Report, boundary: str, *, eight_bit: bool) -> bytes:
    fields = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.hostname}>",
        f"To: <{printable(report.sender)}>",
        f"Subject: {_SUBJECTS[report.action]}",
        f"Date: {format_datetime(report.now)}",
        f"Message-ID: {report.message_id}",
        "Auto-Submitted: auto-replied",  # RFC 3834 5
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
    ]
    if eight_bit:
        fields.append("Content-Transfer-Encoding: 8bit")
    return ("\r\n".join(fields) + "\r\n\r\n").encode("ascii")


def _text_part(report: Report) -> bytes:
    text = _TEXTS[report.action].format(until=format_datetime(report.retry_until)).replace("\n", "\r\n")
    lines = [f"This is the mail system at {report.hostname}.", "", text, ""]
    for recipient in report.recipients:
        lines += [f"<{printable(recipient.address)}>", f"    {printable(str(recipient.answer))}", ""]
    head = "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
    return (head + "\r\n".join(lines)).encode("ascii")


def _status_part(report: Report) -> bytes:
    about = [f"Reporting-MTA: dns; {report.hostname}", f"Arrival-Date: {format_datetime(report.arrived_at)}"]
    if report.envid:
        about.insert(0, f"Original-Envelope-Id: {printable(unxtext(report.envid))}")
    blocks = ["\r\n".join(about), *(_recipient_block(report, recipient) for recipient in report.recipients)]
    return ("Content-Type: message/delivery-status\r\n\r\n" + "\r\n\r\n".join(blocks) + "\r\n").encode("ascii")


def _recipient_block(report: Report, recipient: ReportedRecipient) -> str:
    fields = []
    if recipient.orcpt and ";" in recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        fields.append(f"Original-Recipient: {printable(kind)}; {printable(unxtext(address))}")
    fields += [
        f"Final-Recipient: {typed_address(recipient.address)}",
        f"Action: {report.action.value}",
        f"Status: {_status(report.action, recipient.answer)}",
    ]
    if recipient.answer.code:
        # RFC 3464 2.3.5 leaves Remote-MTA open: the customer's inner server is nothing that a stranger needs to know.
        fields.append(f"Diagnostic-Code: smtp; {printable(str(recipient.answer))}")
    else:
        fields.append(f"Diagnostic-Code: X-Postern; {printable(str(recipient.answer))}")
    fields.append(f"Last-Attempt-Date: {format_datetime(report.now)}")
    if report.action is Action.DELAYED:
        fields.append(f"Will-Retry-Until: {format_datetime(report.retry_until)}")
    return "\r\n".join(fields)


def _status(action: Action, answer: Answer) -> str:
    if action is Action.FAILED and outcome(answer) is Outcome.DEFERRED:
        return EXPIRED
    return status(answer)


def _original_part(report: Report) -> bytes:
    if report.whole is not None:
        return b"Content-Type: message/rfc822\r\n" + _encoding(report.whole) + b"\r\n" + report.whole
    headers = report.headers[:LARGEST_HEADERS]
    return b"Content-Type: text/rfc822-headers\r\n" + _encoding(headers) + b"\r\n" + headers


def _encoding(content: bytes) -> bytes:
    return b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"


def header_section(body: bytes) -> bytes:
    """The message's headers, with the line end of the last one."""
    end = body.find(b"\r\n\r\n")
    return body[: end + 2] if end >= 0 else body[:LARGEST_HEADERS]


def typed_address(address: str) -> str:
    """An address with its type, in ASCII whatever it holds (RFC 3464 2.3.2, RFC 6533 3)."""
    if address.isascii():
        return f"rfc822; {printable(address)}"
    return "utf-8; " + "".join(
        char if "!" <= char <= "~" and char not in "\\+=" else f"\\x{{{ord(char):02X}}}" for char in address
    )


def unxtext(text: str) -> str:
    """xtext (RFC 3461 4) as the text that it stands for."""
    return re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), text)


def printable(text: str) -> str:
    """One line of printable ASCII: what comes from outside cannot begin a header of its own (CASES 55)."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)
