"""The replies of a next hop, in the order of its commands, however many of them are under way (RFC 2920).

aiosmtplib connects, says EHLO and negotiates TLS; its protocol knows one command at a time, and drops what comes
while nobody waits. From MAIL on this protocol has the connection instead. It keeps every reply until it is asked for,
and knows how many are owed: one more means that the two sides are out of step, and ends the dialogue.
"""

import asyncio
from collections import deque
from typing import Final

from aiosmtplib import SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.response import SMTPResponse

LONGEST_REPLY: Final = 64 * 1024  # octets, all its lines together
NOT_UNDERSTOOD: Final = -1  # the code of a reply that is none


class Dialogue(asyncio.Protocol):
    """An open connection between its EHLO and its end."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._loop = asyncio.get_running_loop()
        self._unread = b""  # the beginning of a line
        self._lines: list[bytes] = []  # of a reply that has more to come
        self._size = 0
        self._owed = 0
        self.is_astray = False  # it said more than it was asked, or what is no reply
        self._replies: deque[SMTPResponse] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._broken: tuple[int, str] | None = None
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether the next command may be sent."""
        return self._broken is None and not self.transport.is_closing()

    @property
    def is_in_step(self) -> bool:
        """Whether the server has said what it was asked, and no octet more."""
        return not self.is_astray and not self._unread and not self._lines and not self._replies

    @property
    def has_spoken(self) -> bool:
        """Whether a reply is there, or none will come any more."""
        return bool(self._replies) or self._broken is not None

    def expect(self, replies: int) -> None:
        """So many more replies are owed, by commands that are about to be written."""
        self._owed += replies

    def ask(self, commands: bytes, replies: int) -> None:
        """Send commands that get so many replies. Raises `SMTPServerDisconnected`, also where the server has said more
        than it was asked: a refusal would be taken for another recipient's.
        """
        if not self.is_in_step:
            raise SMTPServerDisconnected("out of step")
        self.expect(replies)
        self.write(commands)

    def write(self, data: bytes) -> None:
        """Send octets; raises `SMTPServerDisconnected`, or what the server's last words were not understood by."""
        if not self.is_open:
            raise self._failure()
        self.transport.write(data)

    async def reply(self, seconds: float) -> SMTPResponse:
        """The next reply. Raises `TimeoutError`, `SMTPServerDisconnected` or, if it was none, `SMTPResponseException`.

        Only one caller may wait at a time.
        """
        if not self._replies:
            if self._broken is not None:
                raise self._failure()
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(seconds, self._give_up, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
            if not self._replies:
                raise self._failure()
        return self._replies.popleft()

    # -- What asyncio calls --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        if self._broken is not None:
            return
        data = self._unread + data
        start = 0
        while (end := data.find(b"\n", start) + 1) and self._broken is None:
            self._take(data[start:end])
            start = end
        self._unread = data[start:]
        if self._size + len(self._unread) > LONGEST_REPLY:
            self._break(NOT_UNDERSTOOD, "the reply is too long")
        self._wake()

    def eof_received(self) -> bool:
        """The server says nothing more."""
        self._break(0, "connection lost")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._break(0, "connection lost")

    # -- Replies -------------------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        """One line of a reply (RFC 5321 4.2.1)."""
        if not line[:3].isdigit():
            self.is_astray = True
            self._break(NOT_UNDERSTOOD, f"malformed reply: {line.decode('utf-8', 'replace')}")
            return
        self._lines.append(line[4:].strip())
        self._size += len(line)
        if line[3:4] == b"-":
            return
        if not self._owed:
            self.is_astray = True
            self._break(0, "out of step")
            return
        self._owed -= 1
        text = b"\n".join(self._lines).decode("utf-8", "surrogateescape")
        self._replies.append(SMTPResponse(int(line[:3]), text))
        self._lines, self._size = [], 0

    def _break(self, code: int, reason: str) -> None:
        if self._broken is None:
            self._broken = code, reason
            self._wake()

    def _failure(self) -> Exception:
        code, reason = self._broken or (0, "connection lost")
        return SMTPResponseException(code, reason) if code else SMTPServerDisconnected(reason)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done() and self.has_spoken:
            self._waiter.set_result(None)

    @staticmethod
    def _give_up(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(TimeoutError())
