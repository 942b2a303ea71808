"""An uploaded file as rows, read piece by piece: memory does not grow with the file.

Rows are numbered as in the file, empty ones and the header counted. Everything here blocks; it runs in a thread.
"""

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from postern_api.imports.rules.columns import Columns, find_columns
from postern_api.imports.rules.decoding import find_encoding, refused
from postern_api.imports.rules.delimiters import SAMPLE_CHARS, find_delimiter
from postern_api.imports.rules.rows import Row, broken_row, read_row

MAX_ROWS: Final = 100_000
MAX_LINE_CHARS: Final = 1024 * 1024
MAX_TEXT_CHARS: Final = 64 * 1024 * 1024  # of all cells: a workbook names one long text a hundred thousand times
MAX_CELLS: Final = 10_000_000  # of all rows, empty ones not counted
MAX_NUMBER: Final = 1_048_576  # of the last row, as spreadsheets bound it
PIECE: Final = 256 * 1024
NO_ROWS: Final = "There is no row beneath the names of the columns."


class Record(NamedTuple):
    """The cells of a row, or why they cannot be told apart."""

    number: int
    cells: list[str]
    problem: str = ""


class Source:
    """Something that gives records: a text or a workbook. `warnings` is whole before the first record."""

    warnings: list[str]

    def records(self) -> Iterator[Record]:
        """The records in their order."""
        raise NotImplementedError

    def octets_read(self) -> int | None:
        """How much of the file has been read, where that can be told."""
        return None


class Table:
    """The rows of users in a source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.warnings = list(source.warnings)
        self.columns: Columns | None = None
        self._text = self._cells = 0

    def rows(self) -> Iterator[Row]:
        """All rows of users; refuses a file that has too many, or no addresses at all."""
        count = 0
        for record in self._source.records():
            self._check_amount(record)
            if self.columns is None:
                self.columns = self._find_columns(record)
                if self.columns.has_header:
                    continue
            count += 1
            if count > MAX_ROWS:
                raise refused(f"There are more than {MAX_ROWS} rows. Split the file.")
            if record.problem:
                yield broken_row(record.number, record.problem)
            else:
                yield read_row(record.number, record.cells, self.columns)
        if self.columns is None:
            raise refused("The file is empty.")
        if not count:
            self.warnings.append(NO_ROWS)

    def _check_amount(self, record: Record) -> None:
        self._text += sum(map(len, record.cells))
        if self._text > MAX_TEXT_CHARS:
            raise refused(f"The cells hold more than {MAX_TEXT_CHARS} characters. Split the file.")
        self._cells += len(record.cells) - record.cells.count("")
        if self._cells > MAX_CELLS:
            raise refused(f"More than {MAX_CELLS} cells are not empty. Split the file, or leave columns out.")

    def _find_columns(self, record: Record) -> Columns:
        if record.problem:
            raise refused(f"Row {record.number}: {record.problem}")
        columns = find_columns(record.cells)
        self.warnings += columns.warnings
        return columns

    def octets_read(self) -> int | None:
        """How much of the file has been read, where that can be told."""
        return self._source.octets_read()


class TextSource(Source):
    """Text with delimiters (RFC 4180, and what spreadsheets make of it)."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        encoding = find_encoding(iter(lambda: file.read(PIECE), b""))
        self.warnings = [] if encoding.warning is None else [encoding.warning]
        file.seek(encoding.mark)
        sample = io.TextIOWrapper(file, encoding=encoding.codec, newline="")
        self._delimiter = find_delimiter(sample.read(SAMPLE_CHARS))
        sample.detach()
        file.seek(encoding.mark)
        self._file = file
        self._text = io.TextIOWrapper(file, encoding=encoding.codec, newline="")

    def records(self) -> Iterator[Record]:
        """Rows with anything in them."""
        lines = _Lines(self._text)
        number = 0
        if self._delimiter.in_first_line:
            next(lines)
            number = 1
        reader = csv.reader(lines, delimiter=self._delimiter.char, strict=True, skipinitialspace=True)
        while True:
            number += 1
            lines.begin_record(number)
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if lines.is_at_end:
                    raise refused(f"{lines.place}: a quote is opened and never closed.") from None
                if "limit" in str(error):
                    raise refused(f"{lines.place}: a cell is too long, or a quote is never closed.") from None
                yield Record(number, [], "The quotes of this row do not match.")
                continue
            if number > MAX_NUMBER:
                raise refused(f"There are more than {MAX_NUMBER} rows, empty ones counted. Split the file.")
            if any(cell.strip() for cell in cells):
                yield Record(number, cells)

    def octets_read(self) -> int | None:
        """The place in the file."""
        return self._file.tell()


class _Lines:
    """The lines of a text, none of them longer than may be."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._number = 0
        self._record = self._begins = self._in_record = 0
        self.is_at_end = False

    def begin_record(self, number: int) -> None:
        """From here on another row is read, of as many lines as its quotes hold."""
        self._record = number
        self._in_record = 0
        self._begins = self._number + 1

    @property
    def place(self) -> str:
        """The row under way, and the line that it begins in where that has another number."""
        return f"Row {self._record}" + (f" (line {self._begins})" if self._begins != self._record else "")

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE_CHARS + 1)
        self._number += 1
        if len(line) > MAX_LINE_CHARS:
            raise refused(f"Line {self._number} is longer than {MAX_LINE_CHARS} characters.")
        self._in_record += len(line)
        if self._in_record > MAX_LINE_CHARS:
            message = f"{self.place} is longer than {MAX_LINE_CHARS} characters, or a quote is never closed."
            raise refused(message)
        if not line:
            self.is_at_end = True
            raise StopIteration
        return line
