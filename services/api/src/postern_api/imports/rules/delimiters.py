"""What stands between the cells: comma, semicolon or tab, or what a `sep=` line says (CASES 38, 39)."""

import csv
import io
import re
from dataclasses import dataclass
from typing import Final

from postern_api.imports.rules.columns import field_of

SAMPLE_CHARS: Final = 64 * 1024
SAMPLE_ROWS: Final = 30
DELIMITERS: Final = (",", ";", "\t")
SAYABLE: Final = frozenset({*DELIMITERS, "|"})
_SEP_LINE: Final = re.compile(r'"?sep=([^\r\n"]?)"?[^\r\n]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[^\s@,;]+@[^\s@,;]+")


@dataclass(frozen=True, slots=True)
class Delimiter:
    """The character between cells; `in_first_line` tells that the first line says so and is no row."""

    char: str
    in_first_line: bool = False


def find_delimiter(sample: str) -> Delimiter:
    """The delimiter of a text that begins with `sample`."""
    said = _SEP_LINE.match(sample)
    if said is not None and said[1] in SAYABLE:
        return Delimiter(said[1], in_first_line=True)
    rest = sample[said.end() :] if said is not None else sample
    best = max(DELIMITERS, key=lambda delimiter: _score(rest, delimiter))
    return Delimiter(best, in_first_line=said is not None)


def _score(sample: str, delimiter: str) -> tuple[int, float, int]:
    """The more known names or addresses in the first row, then the more rows of the same width, the better."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True):
            if any(cell.strip() for cell in row):
                rows.append(row)
            if len(rows) > SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    if not rows:
        return 0, 0.0, 0
    first, rows = rows[0], rows[1:-1] or rows  # the sample may end within the last row
    told = sum(field_of(cell) is not None or _ADDRESS.fullmatch(cell.strip()) is not None for cell in first)
    alike = sum(len(row) == len(first) for row in rows) / len(rows) if len(first) > 1 else 0.0
    return told, alike, len(first)
