"""XLSX workbooks, read and written: the one module that knows openpyxl.

A workbook is a ZIP archive of XML from strangers. Before anything is unpacked its directory is looked at: how many
files, how large they become, how much they shrink (`zipfile` unpacks no more than a file's entry says). XML is read
through defusedxml, which refuses entities; rows are read one by one. Only the first sheet counts.
"""

import io
import math
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Any, BinaryIO, Final

import openpyxl
from openpyxl.cell import WriteOnlyCell
from openpyxl.utils.exceptions import InvalidFileException

from postern_api.imports.rules.columns import MAX_COLUMNS
from postern_api.imports.rules.decoding import refused
from postern_api.imports.table import Record, Source

MEDIA_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MEBIBYTE: Final = 1024 * 1024
MAX_UNPACKED: Final = 256 * MEBIBYTE
MAX_STRINGS: Final = 64 * MEBIBYTE  # kept in memory while the sheet is read
MAX_RATIO: Final = 200
MAX_FILES: Final = 2000
MAX_SHEET_ROWS: Final = 1_048_576  # ECMA-376 part 1, as Excel bounds it
_NO_WORKBOOK: Final = "This is no XLSX workbook that can be read."
_TOO_LARGE: Final = "The workbook is too large when it is unpacked."
if not openpyxl.DEFUSEDXML:
    raise RuntimeError("openpyxl does not read XML through defusedxml")


class WorkbookSource(Source):
    """The first sheet of a workbook."""

    def __init__(self, file: BinaryIO) -> None:
        self.warnings: list[str] = []
        file.seek(0)
        check_archive(file)
        file.seek(0)
        self._book = _open(file)
        names = self._book.sheetnames
        if len(names) > 1:
            self.warnings.append(f"Only the first of the {len(names)} sheets was read.")

    def records(self) -> Iterator[Record]:
        """Rows with anything in them."""
        try:
            sheets = self._book.worksheets
            if not sheets:
                raise refused("The workbook has no sheet.")
            sheets[0].reset_dimensions()
            for number, values in enumerate(sheets[0].iter_rows(values_only=True), 1):
                if number > MAX_SHEET_ROWS:
                    raise refused(f"The sheet has more than {MAX_SHEET_ROWS} rows.")
                cells = _trimmed([text_of(value) for value in values])
                if len(cells) > MAX_COLUMNS:
                    raise refused(f"Row {number} has more than {MAX_COLUMNS} cells.")
                if any(cell.strip() for cell in cells):
                    yield Record(number, cells)
        except _BROKEN as error:
            raise refused(_NO_WORKBOOK) from error
        finally:
            self._book.close()


# What openpyxl raises for files that are none, found by damaging some: there is no common class.
_BROKEN: Final = (
    InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, IndexError, EOFError,
    SyntaxError, OSError, NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip


def _open(file: BinaryIO) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on styles and extensions that openpyxl leaves out
            return openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    except _BROKEN as error:
        raise refused(_NO_WORKBOOK) from error


def check_archive(file: BinaryIO) -> None:
    """Refuse an archive that is no workbook, has a password, or would unpack to too much."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise refused(_NO_WORKBOOK) from error
    names = {entry.filename for entry in entries}
    if "[Content_Types].xml" not in names or "xl/workbook.xml" not in names:
        raise refused(_NO_WORKBOOK)
    if any(entry.flag_bits & 1 for entry in entries):
        raise refused("The workbook has a password. Save it without one.")
    unpacked = sum(entry.file_size for entry in entries)
    strings = sum(entry.file_size for entry in entries if "sharedstrings" in entry.filename.lower())
    if len(entries) > MAX_FILES or unpacked > MAX_UNPACKED or strings > MAX_STRINGS:
        raise refused(_TOO_LARGE)
    for entry in entries:
        if entry.file_size > MEBIBYTE and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
            raise refused(_TOO_LARGE)


def _trimmed(cells: list[str]) -> list[str]:
    """Without the empty cells at the end, which sheets have for their formats only."""
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return cells[:end]


def text_of(value: object) -> str:
    """A cell's value as text: whole numbers without a point, as telephone numbers are typed."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value.is_integer() else repr(value)
    if isinstance(value, datetime):
        is_day = value.time() == time()
        return value.date().isoformat() if is_day else value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


def write_workbook(file: BinaryIO, rows: Iterable[Iterable[str]]) -> None:
    """Write one sheet of texts, row by row."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Users")
    for row in rows:
        cells = []
        for text in row:
            cell = WriteOnlyCell(sheet, value=_writable(text))
            cell.data_type = "s"  # no text becomes a formula or an error
            cells.append(cell)
        sheet.append(cells)
    book.save(file)


def workbook_of(rows: Iterable[Iterable[str]]) -> bytes:
    """A small workbook."""
    file = io.BytesIO()
    write_workbook(file, rows)
    return file.getvalue()


def _writable(text: str) -> str:
    """XML knows no control characters (XML 1.0 2.2); a cell holds 32,767 characters."""
    return "".join(char for char in text if char >= " " or char in "\t\n\r")[:32_767]
