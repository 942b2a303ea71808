"""What one inbound session may use. Each limit is a named number with its reason; the settings can move all of them."""

from dataclasses import dataclass
from typing import Final

COMMAND_LINE: Final = 512  # RFC 5321 4.5.3.1.4
# RFC 1870 3, RFC 6152 3, RFC 6531 3.4 and RFC 3461 4 lengthen MAIL and RCPT by 26 + 17 + 10 + some 500 octets.
ENVELOPE_LINE: Final = 2048
COMMAND_FLOOD: Final = 8 * 1024  # an unfinished command line longer than this ends the session
HEADER: Final = 256 * 1024  # header sections past this are not mail; also bounds what is scanned for the trace
SPILL: Final = 1024 * 1024  # DESIGN 6: a body past this is streamed to the store while it is read
SLOWEST_MESSAGE: Final = 1000  # octets a second; a slower message may have to make way when connections run out
READ_AHEAD: Final = 256 * 1024  # bytes kept of a client that sends faster than we answer; then reading pauses


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a session on the inbound port."""

    max_message_bytes: int = 50 * 1024 * 1024  # SPEC R13
    # RFC 5322 2.1.1 has 998, but signed mail with longer lines is common and must pass unchanged (CASES 64).
    line_bytes: int = 64 * 1024
    recipients: int = 500  # RFC 5321 4.5.3.1.8 wants 100 at least
    messages: int = 10_000  # in one connection, so that connections spread over edges again
    bad_commands: int = 10  # unrecognised ones: whoever sends these does not speak SMTP
    errors: int = 100  # refused commands of any kind: directory harvesting, broken senders
    idle_commands: int = 200  # since the last message, other than MAIL, RCPT and DATA (Postfix' junk commands)
    commands: int = 5000  # of any kind since the last message
    command_seconds: float = 300.0  # RFC 5321 4.5.3.2.7; for a whole command line, so that dripping does not extend it
    data_idle_seconds: float = 180.0  # RFC 5321 4.5.3.2.5: between two blocks of a message
    data_seconds: float = 1800.0  # for a whole message: 50 MiB at 28 KiB/s
    tls_seconds: float = 30.0  # for the handshake
    proxy_seconds: float = 5.0  # a load balancer sends its header at once
    linger_seconds: float = 3.0  # how long a refused client may read our last reply
    crowd_seconds: float = 1.0  # a client that got nowhere for so long makes way when all connections are taken
    budget_wait_seconds: float = 10.0  # how long DATA waits for memory before it is put off
