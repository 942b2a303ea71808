"""Speaking SMTP in tests: a plain message by smtplib, or a dialogue written line by line."""

import email.message
import email.policy
import email.utils
import smtplib
import socket
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self


def plain_message(sender: str, recipients: Sequence[str], subject: str = "Hello", text: str = "Hello.\n") -> bytes:
    """A small message with the usual headers."""
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, ", ".join(recipients), subject
    message["Message-ID"] = email.utils.make_msgid(domain="test.invalid")
    message["Date"] = email.utils.localtime()
    message.set_content(text)
    return message.as_bytes(policy=email.policy.SMTP)


def smtp_send(
    host: str,
    port: int,
    sender: str,
    recipients: Sequence[str],
    message: bytes | None = None,
    *,
    options: Sequence[str] = (),
    timeout: float = 30.0,
) -> dict[str, tuple[int, bytes]]:
    """Send one message; the refused recipients with their replies. Raises smtplib's errors when all are refused."""
    content = message if message is not None else plain_message(sender, recipients)
    with smtplib.SMTP(host, port, "client.test.invalid", timeout) as client:
        return client.sendmail(sender, recipients, content, options)


class Reply(str):
    """A whole SMTP reply as text, with its code and enhanced code apart."""

    __slots__ = ()

    @property
    def code(self) -> int:
        """The three digits."""
        return int(self[:3])

    @property
    def enhanced(self) -> str:
        """The enhanced code of the last line (RFC 3463), empty where there is none."""
        word = self.splitlines()[-1][4:].partition(" ")[0]
        return word if word.count(".") == 2 and word.replace(".", "").isdigit() else ""


class Dialogue:
    """A raw SMTP connection: `send` bytes or lines, `expect` replies; everything said is kept in `log` for failures."""

    def __init__(self, host: str, port: int, timeout: float = 10.0) -> None:
        self.socket: socket.socket = socket.create_connection((host, port), timeout)
        self._buffer = b""
        self.log: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.log.append(f"> {data[:200]!r}")
        self.socket.sendall(data)

    def send(self, *lines: str) -> None:
        """Send lines in one packet, each with CRLF (several: pipelined)."""
        self.send_raw("".join(f"{line}\r\n" for line in lines).encode())

    def read(self) -> Reply:
        """The next whole reply."""
        lines = []
        while True:
            line = self._line()
            lines.append(line)
            if line[3:4] != "-":
                reply = Reply("\n".join(lines))
                self.log.append(f"< {reply}")
                return reply

    def expect(self, code: int | str) -> Reply:
        """The next reply, which must begin with that code (`250`, or `"550 5.1.1"`)."""
        reply = self.read()
        shown = reply.splitlines()[-1]
        assert shown.startswith(str(code)), f"expected {code}, got {reply!r} after\n" + "\n".join(self.log)
        return reply

    def command(self, line: str, code: int | str = 250) -> Reply:
        """Send one line and expect its reply."""
        self.send(line)
        return self.expect(code)

    def greet(self, name: str = "client.test.invalid") -> Reply:
        """Read the banner and say EHLO; the reply with the extensions."""
        self.expect(220)
        return self.command(f"EHLO {name}")

    def starttls(self, context: ssl.SSLContext, name: str = "localhost") -> None:
        """STARTTLS and the handshake."""
        self.command("STARTTLS", 220)
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def closed(self) -> bool:
        """Whether the server has closed the connection (waits up to the timeout for it)."""
        try:
            return not self._buffer and self.socket.recv(1) == b""
        except (ConnectionError, ssl.SSLError):
            return True

    def close(self) -> None:
        """Drop the connection without QUIT."""
        self.socket.close()

    def _line(self) -> str:
        while b"\r\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError("connection closed by the server after\n" + "\n".join(self.log))
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("utf-8", "replace")
