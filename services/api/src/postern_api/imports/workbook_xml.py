"""The two large files of a workbook, its first sheet and its strings, read by events (ECMA-376 part 1, 18.3 and 18.4).

Nothing is kept but the row, or the string, that is being read. Document types are refused, so there are no entities but
those of XML itself; so are elements nested too deeply, rows with too many cells, and cells with too much text.
"""

import re
from collections.abc import Iterator
from typing import IO, Final, NamedTuple
from xml.parsers import expat

from postern_api.imports.rules.columns import MAX_COLUMNS
from postern_api.imports.rules.decoding import refused

PIECE: Final = 64 * 1024
MAX_DEPTH: Final = 32
MAX_ROW: Final = 1_048_576  # as Excel bounds it
MAX_CELLS_AS_SENT: Final = 20_000  # empty ones with a format only; of those with text MAX_COLUMNS
MAX_CELLS: Final = 20_000_000  # of a sheet, as sent
MAX_CELL_CHARS: Final = 64 * 1024  # Excel holds 32,767
MAX_TOKEN_BYTES: Final = 1024 * 1024
MAX_STRINGS: Final = 1_000_000
_COLUMN: Final = re.compile(r"([A-Z]{1,3})[0-9]*")
_ESCAPED: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")


class NotXml(Exception):
    """The file is damaged, or tries what no spreadsheet does."""


class RawCell(NamedTuple):
    """A cell as the sheet has it: type, style and text."""

    type: str
    style: str
    text: str


class _Reader:
    """What sheets and strings have in common: text is taken within some elements, and not within phonetic hints."""

    taken: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._depth = 0
        self._phonetic = 0
        self._is_taking = False
        self._chars = 0
        self.text: list[str] = []

    def feed(self, file: IO[bytes]) -> Iterator[None]:
        """Read the file, and pause after each piece."""
        fed = 0
        try:
            while piece := file.read(PIECE):
                self._parser.Parse(piece)
                fed += len(piece)
                if fed - self._parser.CurrentByteIndex > MAX_TOKEN_BYTES:
                    raise NotXml("an element is too large")
                yield
            self._parser.Parse(b"", True)
            yield
        except expat.ExpatError as error:
            raise NotXml(str(error)) from error

    def _refuse(self, *_: object) -> None:
        raise NotXml("a document type")

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotXml("nested too deeply")
        name = qualified.rpartition(":")[2]
        if name == "rPh":
            self._phonetic += 1
        self._is_taking = name in self.taken and not self._phonetic
        self.begin(name, attributes)

    def _end(self, qualified: str) -> None:
        self._depth -= 1
        name = qualified.rpartition(":")[2]
        if name == "rPh":
            self._phonetic -= 1
        self._is_taking = False
        self.finish(name)

    def _characters(self, text: str) -> None:
        if self._is_taking:
            self._chars += len(text)
            if self._chars > MAX_CELL_CHARS:
                raise NotXml("a cell with too much text")
            self.text.append(text)

    def take_text(self) -> str:
        """The text since the last time."""
        text = "".join(self.text)
        self.text.clear()
        self._chars = 0
        return unescape(text)

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def finish(self, name: str) -> None:
        """An element ends."""


class _Strings(_Reader):
    """The table of strings."""

    taken = frozenset({"t"})

    def __init__(self) -> None:
        super().__init__()
        self.strings: list[str] = []

    def finish(self, name: str) -> None:
        """A string is whole."""
        if name == "si":
            if len(self.strings) >= MAX_STRINGS:
                raise NotXml("too many strings")
            self.strings.append(self.take_text())


class _Sheet(_Reader):
    """Rows of a sheet; whole ones are in `rows` until they are taken."""

    taken = frozenset({"v", "t"})

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, list[RawCell | None]]] = []
        self._number = 0
        self._cells: list[RawCell | None] = []
        self._sent = self._count = 0
        self._column = 0
        self._type = self._style = ""
        self._places: dict[str, int] = {}

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """A row or a cell begins."""
        if name == "row":
            number = int(attributes.get("r", self._number + 1))
            if not self._number < number <= MAX_ROW:
                raise NotXml("rows out of order")
            self._number, self._cells, self._sent, self._column = number, [], 0, 0
        elif name == "c":
            self._sent += 1
            if self._sent > MAX_CELLS_AS_SENT:
                raise NotXml("too many cells")
            self._count += 1
            if self._count > MAX_CELLS:
                raise refused(f"The sheet has more than {MAX_CELLS} cells, empty ones counted. Leave some out.")
            reference = attributes.get("r")
            self._column = self._column + 1 if reference is None else self._place(reference)
            self._type, self._style = attributes.get("t", ""), attributes.get("s", "0")
            self.take_text()

    def _place(self, reference: str) -> int:
        """The column of a reference such as `AB12`, counted from 1."""
        found = _COLUMN.fullmatch(reference)
        if found is None:
            raise NotXml("a cell without a place")
        letters = found[1]
        if letters not in self._places:
            place = 0
            for letter in letters:
                place = place * 26 + ord(letter) - 64
            self._places[letters] = place
        return self._places[letters]

    def finish(self, name: str) -> None:
        """A cell or a row is whole."""
        if name == "row":
            self.rows.append((self._number, self._cells))
        elif name == "c" and (text := self.take_text()):
            if self._column > MAX_COLUMNS:
                raise refused(f"Row {self._number} has more than {MAX_COLUMNS} cells.")
            self._cells += [None] * (self._column - len(self._cells))
            self._cells[self._column - 1] = RawCell(self._type, self._style, text)


def read_strings(file: IO[bytes]) -> list[str]:
    """The strings that cells refer to by their places."""
    reader = _Strings()
    for _ in reader.feed(file):
        pass
    return reader.strings


def read_rows(file: IO[bytes]) -> Iterator[tuple[int, list[RawCell | None]]]:
    """Rows with their numbers; cells that are not there are None."""
    reader = _Sheet()
    for _ in reader.feed(file):
        yield from reader.rows
        reader.rows.clear()


def unescape(text: str) -> str:
    """Text as it was typed: what XML cannot hold is written as `_x000D_` (ECMA-376 part 1, 22.9.2.19)."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def escape(text: str) -> str:
    """The way there: also of what only looks like such a sequence."""
    shown = _ESCAPED.sub(lambda found: f"_x005F{found[0]}", text)
    return "".join(char if char >= " " or char in "\t\n" else f"_x{ord(char):04X}_" for char in shown)
