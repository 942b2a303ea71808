"""Every reply that the edge says, as data: no other module holds an SMTP reply.

Each has an id of its own (`E5112`: class, subject, detail of the enhanced code, and a number), so that a line in
somebody's bounce leads to one line here and to one event in our log. The text is public: it names no host, no
tenant and no cause that is ours. RFC 5321 4.2 has the codes, RFC 3463 and RFC 5248 the enhanced codes.
"""

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; `wire` is ready to be written."""

    id: str
    code: int
    enhanced: str  # "" where the reply has none: 220, 250 to EHLO and HELO, 354 (RFC 2034 4)
    text: str
    wire: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        head = f"{self.code} {self.enhanced} " if self.enhanced else f"{self.code} "
        object.__setattr__(self, "wire", f"{head}{self.text}\r\n".encode("ascii"))

    @property
    def ok(self) -> bool:
        """Whether the command did what was asked."""
        return self.code < 400

    @property
    def permanent(self) -> bool:
        """Whether trying again is pointless."""
        return self.code >= 500

    def __str__(self) -> str:
        return self.wire[:-2].decode("ascii")


CATALOGUE: Final[dict[str, Reply]] = {}


def _reply(id: str, code: int, enhanced: str, text: str) -> Reply:  # noqa: A002 - the reply's id
    if id in CATALOGUE:
        raise ValueError(f"reply {id} is defined twice")
    reply = CATALOGUE[id] = Reply(id, code, enhanced, text)
    return reply


# Success
BYE: Final = _reply("E2001", 221, "2.0.0", "Bye")
READY_FOR_TLS: Final = _reply("E2002", 220, "2.0.0", "Ready to start TLS")
RESET: Final = _reply("E2003", 250, "2.0.0", "Reset")
NOTHING_DONE: Final = _reply("E2004", 250, "2.0.0", "OK")
HELP: Final = _reply("E2005", 214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT STARTTLS VRFY HELP")
SENDER_OK: Final = _reply("E2101", 250, "2.1.0", "Sender OK")
RECIPIENT_OK: Final = _reply("E2151", 250, "2.1.5", "Recipient OK")
CANNOT_VERIFY: Final = _reply("E2152", 252, "2.1.5", "Cannot say; send some mail and see")
GO_AHEAD: Final = _reply("E3541", 354, "", "End data with <CR><LF>.<CR><LF>")

# The session ends for now
TOO_MANY_CONNECTIONS: Final = _reply("E4701", 421, "4.7.0", "Too many connections; try again later")
TOO_MANY_FROM_ADDRESS: Final = _reply("E4702", 421, "4.7.0", "Too many connections from your address")
TOO_MANY_BAD_COMMANDS: Final = _reply("E4703", 421, "4.7.0", "Too many unrecognised commands")
TOO_MANY_ERRORS: Final = _reply("E4704", 421, "4.7.0", "Too many errors")
TOO_MANY_COMMANDS: Final = _reply("E4705", 421, "4.7.0", "Too many commands without a message")
TOO_MANY_MESSAGES: Final = _reply("E4706", 421, "4.7.0", "Enough messages in one connection; open a new one")
IDLE_TOO_LONG: Final = _reply("E4421", 421, "4.4.2", "Waited too long for a command")
DATA_TOO_SLOW: Final = _reply("E4422", 421, "4.4.2", "Waited too long for the message")
GOING_DOWN: Final = _reply("E4321", 421, "4.3.2", "Service shutting down; try again at once")
LINE_WITHOUT_END: Final = _reply("E4551", 421, "4.5.2", "Line without an end")

# Try again
SOME_FAILURE: Final = _reply("E4301", 451, "4.3.0", "Temporary failure; try again later")
CANNOT_TELL: Final = _reply("E4302", 451, "4.3.0", "Recipient cannot be checked just now")
SPOOL_FULL: Final = _reply("E4311", 452, "4.3.1", "Not enough storage just now")
TOO_BUSY: Final = _reply("E4312", 452, "4.3.1", "Too many messages under way just now")
TOO_MANY_RECIPIENTS: Final = _reply("E4531", 452, "4.5.3", "Too many recipients; send the rest in another transaction")
OTHER_SIZE_LIMIT: Final = _reply("E4532", 452, "4.5.3", "Recipient with another size limit; use another transaction")
DOMAIN_PENDING: Final = _reply("E4711", 450, "4.7.1", "Domain is still being set up; try again later")

# Wrong commands
NOT_RECOGNISED: Final = _reply("E5001", 500, "5.5.1", "Command not recognised")
COMMAND_TOO_LONG: Final = _reply("E5002", 500, "5.5.2", "Command line too long")
COMMAND_SYNTAX: Final = _reply("E5003", 500, "5.5.2", "Command has characters that are not allowed")
BAD_HELO: Final = _reply("E5011", 501, "5.5.4", "Domain name or address literal required")
BAD_ARGUMENT: Final = _reply("E5012", 501, "5.5.4", "Command takes no such argument")
BAD_PARAMETER: Final = _reply("E5013", 501, "5.5.4", "Parameter has a wrong value or stands twice")
SENDER_SYNTAX: Final = _reply("E5171", 501, "5.1.7", "Syntax: MAIL FROM:<address>")
SENDER_TOO_LONG: Final = _reply("E5172", 501, "5.1.7", "Sender address too long")
RECIPIENT_SYNTAX: Final = _reply("E5131", 501, "5.1.3", "Syntax: RCPT TO:<address>")
RECIPIENT_TOO_LONG: Final = _reply("E5132", 501, "5.1.3", "Recipient address too long")
NOT_IMPLEMENTED: Final = _reply("E5021", 502, "5.5.1", "Command not implemented")
HELLO_FIRST: Final = _reply("E5031", 503, "5.5.1", "Send EHLO or HELO first")
NESTED_MAIL: Final = _reply("E5032", 503, "5.5.1", "Sender already given")
MAIL_FIRST: Final = _reply("E5033", 503, "5.5.1", "Send MAIL first")
RECIPIENT_FIRST: Final = _reply("E5034", 503, "5.5.1", "No valid recipients")
TLS_ALREADY: Final = _reply("E5035", 503, "5.5.1", "TLS is active already")
SENDER_NEEDS_UTF8: Final = _reply("E5561", 550, "5.6.7", "Sender address needs SMTPUTF8")
RECIPIENT_NEEDS_UTF8: Final = _reply("E5562", 553, "5.6.7", "Recipient address needs SMTPUTF8")
UNKNOWN_PARAMETER: Final = _reply("E5551", 555, "5.5.4", "Parameter not recognised")

# Refused for good
UNKNOWN_USER: Final = _reply("E5112", 550, "5.1.1", "No such user here")
UNKNOWN_DOMAIN: Final = _reply("E5711", 550, "5.7.1", "Relay access denied: this domain is not served here")
TOO_LARGE: Final = _reply("E5341", 552, "5.3.4", "Message larger than the limit")
LINE_TOO_LONG: Final = _reply("E5004", 500, "5.5.2", "Message has a line that is too long")
NUL_IN_MESSAGE: Final = _reply("E5601", 554, "5.6.0", "Message has a NUL octet")
HEADER_TOO_LARGE: Final = _reply("E5602", 554, "5.6.0", "Message header too large")
MAIL_LOOP: Final = _reply("E5461", 554, "5.4.6", "Too many hops; the message is looping")

# Refused, and the session ends (RFC 7504 4 for 521)
BARE_LINE_END: Final = _reply("E5211", 521, "5.5.2", "Bare CR or LF is not allowed; lines end in CR LF")
NOT_SMTP: Final = _reply("E5212", 521, "5.5.1", "This is an SMTP server")
NOT_SYNCHRONISED: Final = _reply("E5541", 554, "5.5.0", "Message sent before it was asked for")


def banner(hostname: str) -> bytes:
    """The greeting, without the software's name and version."""
    return f"220 {hostname} ESMTP\r\n".encode("ascii")


def helo_ok(hostname: str) -> bytes:
    """The answer to HELO."""
    return f"250 {hostname}\r\n".encode("ascii")


def ehlo_ok(hostname: str, max_message_bytes: int, *, starttls: bool) -> bytes:
    """The answer to EHLO with the extensions of this port (RFC 5321 4.1.1.1)."""
    keywords = ["PIPELINING", f"SIZE {max_message_bytes}"]
    if starttls:
        keywords.append("STARTTLS")
    keywords += ["ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "HELP"]
    lines = [hostname, *keywords]
    last = len(lines) - 1
    return "".join(f"250{' ' if i == last else '-'}{line}\r\n" for i, line in enumerate(lines)).encode("ascii")


def queued(queue_id: str) -> Reply:
    """The one reply that makes us responsible for a message (RFC 5321 4.2.5)."""
    return Reply("E2501", 250, "2.0.0", f"OK: queued as {queue_id}")
