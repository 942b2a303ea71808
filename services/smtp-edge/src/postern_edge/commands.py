"""The verbs of the inbound port: which method answers each, and what ends the session.

A verb's function returns what is to be written, or None where the session answers later (DATA, STARTTLS, an awaited
hook). There is no AUTH here (it has a port of its own), VRFY tells nothing, EXPN does not exist.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from postern_edge import replies
from postern_edge.limits import COMMAND_LINE, ENVELOPE_LINE
from postern_edge.replies import Reply

if TYPE_CHECKING:
    from postern_edge.protocol import EdgeSMTP

Answer = Reply | bytes | None
# RFC 5321 4.1.1.1 wants a domain or a literal, RFC 5321 4.1.4 leniency. Refused is what would break a Received line.
_HELO_NAME: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HTTP: Final = re.compile(
    rb"(?:GET|POST|PUT|HEAD|OPTIONS|CONNECT|DELETE|PATCH|TRACE|PRI) |.*HTTP/\d|Host:", re.IGNORECASE
)


def _always(reply: Reply) -> Callable[["EdgeSMTP", str], Answer]:
    """The same answer whatever the argument."""
    return lambda _server, _argument: reply


def _helo(server: "EdgeSMTP", argument: str) -> Answer:
    return _hello(server, argument, extended=False)


def _ehlo(server: "EdgeSMTP", argument: str) -> Answer:
    return _hello(server, argument, extended=True)


def _hello(server: "EdgeSMTP", argument: str, *, extended: bool) -> Answer:
    name = argument.strip(" \t").split(" ", 1)[0]
    if not _HELO_NAME.fullmatch(name):
        return replies.BAD_HELO
    server.session.host_name = name
    server.session.extended_smtp = extended
    server.reset_transaction()  # RFC 5321 4.1.4
    port = server.port
    if not extended:
        return port.helo
    return port.ehlo_in_tls if server.session.tls else port.ehlo_in_clear


def _mail(server: "EdgeSMTP", argument: str) -> Answer:
    if argument[:5].upper() != "FROM:":
        return replies.SENDER_SYNTAX
    if not server.session.host_name:
        return replies.HELLO_FIRST
    if server.messages_left <= 0:
        server.close_with(replies.TOO_MANY_MESSAGES)
        return None
    return server.answer(server.port.handler.handle_MAIL(server, server.session, server.envelope, argument[5:]))


def _rcpt(server: "EdgeSMTP", argument: str) -> Answer:
    if argument[:3].upper() != "TO:":
        return replies.RECIPIENT_SYNTAX
    if not server.session.host_name:
        return replies.HELLO_FIRST
    return server.answer(server.port.handler.handle_RCPT(server, server.session, server.envelope, argument[3:]))


def _data(server: "EdgeSMTP", argument: str) -> Answer:
    if argument:
        return replies.BAD_ARGUMENT
    if not server.session.host_name:
        return replies.HELLO_FIRST
    if server.envelope.mail_from is None:
        return replies.MAIL_FIRST
    if not server.envelope.recipients:
        return replies.RECIPIENT_FIRST  # RFC 2920 3.1, CASES 51
    server.begin_data()
    return None


def _rset(server: "EdgeSMTP", argument: str) -> Answer:
    if argument:
        return replies.BAD_ARGUMENT
    server.reset_transaction()
    return replies.RESET


def _vrfy(_: "EdgeSMTP", argument: str) -> Answer:
    return replies.CANNOT_VERIFY if argument else replies.BAD_ARGUMENT


def _quit(server: "EdgeSMTP", _: str) -> Answer:
    server.hang_up(replies.BYE)
    return None


def _starttls(server: "EdgeSMTP", argument: str) -> Answer:
    if server.port.tls is None:
        return replies.NOT_IMPLEMENTED
    if server.session.tls:
        return replies.TLS_ALREADY
    if argument:
        return replies.BAD_ARGUMENT
    server.begin_tls(server.port.tls.context)
    return None


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: its name (a metric's label), what answers it, and the longest line that it may have, CR LF included."""

    name: str
    run: Callable[["EdgeSMTP", str], Answer]
    longest: int = COMMAND_LINE


OTHER: Final = "other"
VERBS: Final[dict[bytes, Verb]] = {
    verb.name.encode(): verb
    for verb in (
        Verb("HELO", _helo),
        Verb("EHLO", _ehlo),
        Verb("MAIL", _mail, ENVELOPE_LINE),
        Verb("RCPT", _rcpt, ENVELOPE_LINE),
        Verb("DATA", _data),
        Verb("RSET", _rset),
        Verb("NOOP", _always(replies.NOTHING_DONE)),
        Verb("HELP", _always(replies.HELP)),
        Verb("VRFY", _vrfy),
        Verb("QUIT", _quit),
        Verb("STARTTLS", _starttls),
        Verb("AUTH", _always(replies.NOT_IMPLEMENTED)),
        Verb("BDAT", _always(replies.NOT_IMPLEMENTED)),
        Verb("EXPN", _always(replies.NOT_IMPLEMENTED)),
    )
}
PRODUCTIVE: Final = frozenset({"MAIL", "RCPT", "DATA", "QUIT"})  # the verbs that a session may use at length


def is_foreign(line: bytes, *, greeted: bool) -> bool:
    """Whether a line that is no command shows a client of another protocol, who is sent away at once."""
    return _HTTP.match(line) is not None or (not greeted and (not line.isascii() or _CONTROL.search(line) is not None))


def is_tls_hello(first: int) -> bool:
    """Whether a connection's first octet begins a TLS record (22) or an SSL 2 hello (128)."""
    return first in {0x16, 0x80}


def decode_argument(raw: bytes) -> str | None:
    """A command's argument as text; None where it is neither ASCII nor UTF-8, or holds control characters."""
    if _CONTROL.search(raw):
        return None
    try:
        return raw.decode("utf-8")  # RFC 6531 3.3; each verb decides whether it takes more than ASCII
    except UnicodeDecodeError:
        return None
