"""XLSX workbooks (ECMA-376 part 1, 18), read without keeping more than a row of them, and written.

A workbook is a ZIP archive of XML from strangers. Its directory is looked at before anything is unpacked: how many
files, how large they become, how much they shrink (`zipfile` unpacks no more than an entry says). The small files in it
are read through defusedxml. Sheets and strings are read by events, so that no tree of a hostile sheet fills the memory;
document types, and with them entities, are refused there too. Only the first sheet counts.
"""

import io
import math
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import BinaryIO, Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format
from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

from postern_api.imports.rules.columns import MAX_COLUMNS
from postern_api.imports.rules.decoding import refused
from postern_api.imports.table import Record, Source
from postern_api.imports.workbook_xml import NotXml, RawCell, read_rows, read_strings

MEBIBYTE: Final = 1024 * 1024
MAX_UNPACKED: Final = 256 * MEBIBYTE
MAX_STRINGS: Final = 64 * MEBIBYTE  # kept in memory while the sheet is read
MAX_SMALL: Final = 4 * MEBIBYTE
MAX_RATIO: Final = 200
MAX_FILES: Final = 2000
MAX_DIRECTORY: Final = MEBIBYTE
END_BYTES: Final = 22 + 65_535  # the last record and its comment
_NO_WORKBOOK: Final = "This is no XLSX workbook that can be read."
_TOO_LARGE: Final = "The workbook is too large when it is unpacked."
_BROKEN: Final = (
    zipfile.BadZipFile, zlib.error, NotXml, ParseError, DefusedXmlException, NotImplementedError, RuntimeError,
    StopIteration, KeyError, ValueError, EOFError, OSError,
)  # fmt: skip
_WHOLE: Final = re.compile(r"-?[0-9]{1,30}")


class WorkbookSource(Source):
    """The first sheet of a workbook."""

    def __init__(self, file: BinaryIO) -> None:
        self.warnings: list[str] = []
        file.seek(0)
        check_archive(file)
        file.seek(0)
        try:
            self._archive = zipfile.ZipFile(file)
            self._find_parts()
        except _BROKEN as error:
            raise refused(_NO_WORKBOOK) from error

    def _find_parts(self) -> None:
        book_path = next(iter(self._targets("", "officeDocument").values()))
        book = self._parsed(book_path)
        sheets = self._targets(book_path, "worksheet")
        listed = [sheet for sheet in book.iter() if _name(sheet.tag) == "sheet"]
        ids = [value for sheet in listed for key, value in sheet.attrib.items() if key.endswith("}id")]
        paths = [sheets[one] for one in ids if one in sheets]
        if not paths:
            raise KeyError("no worksheet")
        self._sheet = paths[0]
        if len(listed) > 1:
            self.warnings.append(f"Only the first of the {len(listed)} sheets was read.")
        self._strings = next(iter(self._targets(book_path, "sharedStrings").values()), None)
        styles = next(iter(self._targets(book_path, "styles").values()), None)
        self._dates = set() if styles is None else _date_styles(self._parsed(styles))
        is_1904 = any(_name(one.tag) == "workbookPr" and one.get("date1904") in {"1", "true"} for one in book)
        self._epoch = CALENDAR_MAC_1904 if is_1904 else CALENDAR_WINDOWS_1900

    def _targets(self, of: str, kind: str) -> dict[str, str]:
        """What a part refers to: id and path of those parts that are of a kind."""
        folder, name = posixpath.split(of)
        found = {}
        for one in self._parsed(posixpath.join(folder, "_rels", f"{name}.rels")):
            if one.attrib["Type"].rpartition("/")[2] == kind:
                found[one.attrib["Id"]] = posixpath.normpath(posixpath.join("/", folder, one.attrib["Target"]))[1:]
        return found

    def _parsed(self, path: str) -> Element:
        if self._archive.getinfo(path).file_size > MAX_SMALL:
            raise refused(_TOO_LARGE)
        parsed: Element = fromstring(self._archive.read(path), forbid_dtd=True)
        return parsed

    def records(self) -> Iterator[Record]:
        """Rows with anything in them."""
        try:
            strings = self._read_strings()
            with self._archive.open(self._sheet) as file:
                for number, raw in read_rows(file):
                    cells = _trimmed([self._text(cell, strings) for cell in raw])
                    if len(cells) > MAX_COLUMNS:
                        raise refused(f"Row {number} has more than {MAX_COLUMNS} cells.")
                    if any(cell.strip() for cell in cells):
                        yield Record(number, cells)
        except _BROKEN as error:
            raise refused(_NO_WORKBOOK) from error

    def _read_strings(self) -> list[str]:
        if self._strings is None:
            return []
        if self._archive.getinfo(self._strings).file_size > MAX_STRINGS:
            raise refused(_TOO_LARGE)
        with self._archive.open(self._strings) as file:
            return read_strings(file)

    def _text(self, cell: RawCell | None, strings: list[str]) -> str:
        """A cell as text: ECMA-376 part 1, 18.18.11 (ST_CellType)."""
        if cell is None or not cell.text:
            return ""
        if cell.type == "s":
            place = int(cell.text)
            if not 0 <= place < len(strings):
                raise ValueError("no such string")
            return strings[place]
        if cell.type == "b":
            return "TRUE" if cell.text.strip() == "1" else "FALSE"
        if cell.type not in {"", "n"}:
            return cell.text
        return text_of(self._date(cell)) if cell.style in self._dates else number_text(cell.text.strip())

    def _date(self, cell: RawCell) -> object:
        try:
            return from_excel(float(cell.text), self._epoch)
        except (ValueError, OverflowError):
            return cell.text


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]


def _date_styles(styles: Element) -> set[str]:
    """The styles of cells that show their number as a date."""
    formats = {number: code for number, code in BUILTIN_FORMATS.items() if is_date_format(code)}
    own: dict[str, str] = {
        one.get("numFmtId", ""): one.get("formatCode", "") for one in styles.iter() if _name(one.tag) == "numFmt"
    }
    dates = {str(number) for number in formats} | {number for number, code in own.items() if is_date_format(code)}
    for part in styles:
        if _name(part.tag) == "cellXfs":
            return {str(place) for place, style in enumerate(part) if style.get("numFmtId") in dates}
    return set()


def check_archive(file: BinaryIO) -> None:
    """Refuse an archive that has a password or would unpack to too much."""
    _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except _BROKEN as error:
        raise refused(_NO_WORKBOOK) from error
    if any(entry.flag_bits & 1 for entry in entries):
        raise refused("The workbook has a password. Save it without one.")
    if any(entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} for entry in entries):
        raise refused(_NO_WORKBOOK)  # `zipfile` unpacks other kinds without a bound, and workbooks have none
    if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_UNPACKED:
        raise refused(_TOO_LARGE)
    for entry in entries:
        if entry.file_size > MEBIBYTE and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
            raise refused(_TOO_LARGE)


def _check_directory(file: BinaryIO) -> None:
    """Refuse an archive whose directory, which `zipfile` reads whole, is large (APPNOTE 4.3.16, 4.3.15)."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - END_BYTES))
    tail = file.read()
    file.seek(0)
    at = tail.find(b"PK\x05\x06")
    while at >= 0:
        directory = int.from_bytes(tail[at + 12 : at + 16], "little")
        if directory > MAX_DIRECTORY or tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
            raise refused(_TOO_LARGE)
        at = tail.find(b"PK\x05\x06", at + 1)


def _trimmed(cells: list[str]) -> list[str]:
    """Without the empty cells at the end, which sheets have for their formats only."""
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return cells[:end]


def number_text(text: str) -> str:
    """A number as it is typed: telephone numbers have no point and no exponent."""
    if _WHOLE.fullmatch(text):
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    return str(int(value)) if math.isfinite(value) and value.is_integer() else repr(value)


def text_of(value: object) -> str:
    """A date or time as text."""
    if isinstance(value, datetime):
        is_day = value.time() == time()
        return value.date().isoformat() if is_day else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)
