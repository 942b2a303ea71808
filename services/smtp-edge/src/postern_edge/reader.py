"""Reads the message after DATA in whatever chunks the socket gives, and never holds what will be refused.

Only CR LF "." CR LF ends a message (RFC 5321 4.1.1.4). A bare CR or a bare LF anywhere before it is a
`BARE_LINE_END` at once, also where a chunk's border falls between two octets, so that nothing that another server
could take for the end of a message passes (SMTP smuggling). Whatever the chunks, the result is the same. The bytes
are scanned a chunk at a time, never again.
"""

from enum import IntEnum
from typing import Final

_END: Final = b"\r\n.\r\n"


class Fault(IntEnum):
    """Why a message is refused; of several the highest is said.

    A `BARE_LINE_END` ends the reading, the others are said after the message's end.
    """

    LINE_TOO_LONG = 1
    NUL = 2
    TOO_LARGE = 3
    BARE_LINE_END = 4


class DataReader:
    """One message under way.

    `feed` takes the next bytes and returns what follows the message's end, or None while it has not come. `size` is
    the body's length with dots unstuffed, `kept` what of it lies here; after a fault the body is dropped and only the
    end is looked for.
    """

    __slots__ = ("_body", "_held", "_line", "_max_line", "_max_size", "fault", "received", "size")

    def __init__(self, max_size: int, max_line: int) -> None:
        self._max_size = max_size
        self._max_line = max_line
        self._held = b"\r\n"  # the message starts at a line's start: as if a line end had come before
        self._line = -2  # octets of the unfinished line, less the two that were not sent
        self._body = bytearray()  # not a list of chunks: a client may send thousands of two octets each
        self.size = -2
        self.received = 0
        self.fault: Fault | None = None

    @property
    def kept(self) -> int:
        """How many octets are held."""
        return len(self._body)

    def feed(self, chunk: bytes) -> bytes | None:
        """Take the next bytes; the bytes after the message's end, or None if more of the message is to come."""
        self.received += len(chunk)
        data = self._held + chunk
        dot = data.find(b"\r\n.")
        stuffed = dot >= 0
        end = data.find(_END, dot) if stuffed else -1
        if end >= 0:
            self._take(data[: end + 2], stuffed=dot != end)
            return b"" if self.fault is Fault.BARE_LINE_END else data[end + 5 :]
        held = _held_back(data)
        self._held = data[len(data) - held :]
        if len(data) > held:
            self._take(data[: len(data) - held] if held else data, stuffed=stuffed)
        return b"" if self.fault is Fault.BARE_LINE_END else None

    def take(self) -> bytes:
        """Hand out the body read so far; the caller keeps it from here on."""
        taken = bytes(self._body)
        self._body.clear()
        return taken

    def _take(self, section: bytes, *, stuffed: bool) -> None:
        """Check and keep a stretch of the message in which no CR LF is cut in two."""
        pairs = section.count(b"\r\n")
        if len(section) - len(section.translate(None, b"\r\n")) != 2 * pairs:
            self._refuse(Fault.BARE_LINE_END)
            return
        if stuffed:
            section = section.replace(b"\r\n.", b"\r\n")  # RFC 5321 4.5.2
        self._measure_lines(section, pairs)
        first = self.size < 0
        self.size += len(section)
        if self.size > self._max_size:
            self._refuse(Fault.TOO_LARGE)
        if b"\0" in section:
            self._refuse(Fault.NUL)
        if self.fault is None:
            self._body += section[2:] if first else section

    def _measure_lines(self, section: bytes, pairs: int) -> None:
        """Hop from line end to line end by the longest line allowed; without one in reach the line is too long."""
        if self._line + len(section) <= self._max_line:  # which is so for most
            self._line = len(section) - section.rfind(b"\n") - 1 if pairs else self._line + len(section)
            return
        start = -self._line  # where the unfinished line began, seen from this section
        while len(section) - start > self._max_line:
            newline = section.rfind(b"\n", max(start, 0), start + self._max_line)
            if newline < 0:
                self._refuse(Fault.LINE_TOO_LONG)
                self._line = 0  # measured no more: the fault stands
                return
            start = newline + 1
        newline = section.rfind(b"\n", max(start, 0))
        self._line = len(section) - (start if newline < 0 else newline + 1)

    def _refuse(self, fault: Fault) -> None:
        self.fault = max(fault, self.fault or fault)
        self._body.clear()


def _held_back(data: bytes) -> int:
    """How many octets at the end may be the beginning of the end marker and wait for the next chunk."""
    for length in (4, 3, 2, 1):
        if data.endswith(_END[:length]):
            return length
    return 0
