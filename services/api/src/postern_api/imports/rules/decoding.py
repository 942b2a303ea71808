"""What kind of file was sent, and in which encoding its text is (SPEC U3, BEHAVIOURS 3.14, CASES 38, 40).

A byte order mark decides. Without one the text is UTF-8 if all of it is; else Windows-1252, as Excel saves it in
Western Europe, which is told in a warning. What fits neither, or is partly UTF-8 and partly not, is refused with the
line, rather than kept as letters that nobody wrote.
"""

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

from postern_common.errors import Rejected

HEAD_BYTES: Final = 4096
BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
SHOWN: Final = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "cp1252": "Windows-1252"}
CP1252_WARNING: Final = (
    "The file is not UTF-8 and was read as Windows-1252. Look at the letters with accents, or save it as UTF-8."
)
_OLE: Final = bytes.fromhex("d0cf11e0a1b11ae1")  # MS-CFB 2.2: .xls, and any workbook that has a password
_ZIP: Final = b"PK\x03\x04"
_NOT_IN_CP1252: Final = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_UNDECODED: Final = re.compile("[\udc80-\udcff]")
_DECODED: Final = re.compile("[\x80-\ud7ff\ue000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's text is written: the codec, the octets of its mark, and what the reader should know."""

    codec: str
    mark: int
    warning: str | None = None


def refused(message: str) -> Rejected:
    """A file that cannot be read as users."""
    return Rejected("import-unreadable", message, pointer="/file")


def kind_of(head: bytes, name: str = "") -> Literal["text", "workbook"]:
    """Whether the file is text or an XLSX workbook, by its first octets; refuses what is neither, and text whose name
    says that it is a workbook.
    """
    if not head.strip():
        raise refused("The file is empty.")
    if head.startswith(_OLE):
        message = (
            "This is an old Excel workbook (.xls), or one with a password. Save it as .xlsx without one, or as CSV."
        )
        raise refused(message)
    if head.startswith(_ZIP):
        return "workbook"
    if (
        not any(head.startswith(mark) for mark, _ in BOMS)
        and b"\0" in head[:HEAD_BYTES]
        and _unmarked_utf16(head) is None
    ):
        raise refused("This is neither text nor an XLSX workbook.")
    if name.strip().lower().endswith(".xlsx"):
        raise refused("This is no XLSX workbook, although its name says so. If it is text, name it .csv.")
    return "text"


def _unmarked_utf16(head: bytes) -> str | None:
    """UTF-16 without a mark: Western text has a zero in every second octet, and in no other."""
    head = head[: HEAD_BYTES // 2 * 2]
    low, high = head[0::2].count(0), head[1::2].count(0)
    if high > len(head) // 4 and low == 0:
        return "utf-16-le"
    if low > len(head) // 4 and high == 0:
        return "utf-16-be"
    return None


def find_encoding(chunks: Iterable[bytes]) -> Encoding:
    """The encoding of the file that `chunks` are; refuses one that has none, naming the line."""
    parts = iter(chunks)
    first = next(parts, b"")
    for mark, codec in BOMS:
        if first.startswith(mark):
            _check(codec, first[len(mark) :], parts)
            return Encoding(codec, len(mark))
    codec_found = _unmarked_utf16(first) if b"\0" in first[:HEAD_BYTES] else None
    if codec_found is not None:
        _check(codec_found, first, parts)
        return Encoding(codec_found, 0)
    return _utf8_or_cp1252(first, parts)


class _Lines:
    """Counts lines of text as it passes; whatever ends them."""

    def __init__(self) -> None:
        self._feeds = 0
        self._returns = 0

    def pass_by(self, text: str) -> None:
        self._feeds += text.count("\n")
        self._returns += text.count("\r")

    def at(self, before: str) -> int:
        """The line after `before`, which comes next."""
        feeds, returns = self._feeds + before.count("\n"), self._returns + before.count("\r")
        return 1 + (feeds or returns)


def _check(codec: str, first: bytes, parts: Iterable[bytes]) -> None:
    decoder, lines = codecs.getincrementaldecoder(codec)("strict"), _Lines()
    try:
        lines.pass_by(decoder.decode(first))
        for part in parts:
            lines.pass_by(decoder.decode(part))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        good = error.object[: error.start].decode(codec, "replace")
        name = SHOWN[codec]
        raise refused(f"Line {lines.at(good)} is not {name}, although the file says that it is.") from None


def _utf8_or_cp1252(first: bytes, parts: Iterable[bytes]) -> Encoding:
    decoder, lines = codecs.getincrementaldecoder("utf-8")("surrogateescape"), _Lines()
    is_partly_utf8, bad_line, unknown_line = False, 0, 0
    for chunk in chain((first,), parts):
        text = decoder.decode(chunk)
        if not text.isascii():
            is_partly_utf8 = is_partly_utf8 or _DECODED.search(text) is not None
            bad_line = bad_line or _line_of(_UNDECODED.search(text), text, lines)
        if not unknown_line and (unknown := _NOT_IN_CP1252.search(chunk)) is not None:
            unknown_line = lines.at(chunk[: unknown.start()].decode("latin-1"))
        lines.pass_by(text)
    text = decoder.decode(b"", final=True)
    bad_line = bad_line or _line_of(_UNDECODED.search(text), text, lines)
    if not bad_line:
        return Encoding("utf-8", 0)
    if is_partly_utf8:
        raise refused(f"Line {bad_line} is not UTF-8, although other lines are.")
    if unknown_line:
        raise refused(f"Line {unknown_line} is neither UTF-8 nor Windows-1252. Save the file as UTF-8.")
    return Encoding("cp1252", 0, CP1252_WARNING)


def _line_of(found: re.Match[str] | None, text: str, lines: _Lines) -> int:
    return 0 if found is None else lines.at(text[: found.start()])
