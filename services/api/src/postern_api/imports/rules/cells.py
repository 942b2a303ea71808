"""Single cells: the guard against formulas, and what a text field may hold (SPEC U3, CASES 43, 44).

A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, TAB or CR for a formula, some also with the full-width
forms of these, or with blanks before them. An export puts a `'` before it, and an import takes one off again. Text that
begins with `'` and then such a character gets one more, so that the way there and back always gives the same text.
"""

import re
import unicodedata
from typing import Final

MAX_LINE: Final = 200
MAX_NOTES: Final = 4000
_FORMULA: Final = r"(?:[\t\r]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20])"
_LOOKS_LIKE_A_FORMULA: Final = re.compile(f"'*{_FORMULA}")
_GUARDED: Final = re.compile(f"'+{_FORMULA}")
_NO_TEXT: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def guard(text: str) -> str:
    """The cell for `text` that no spreadsheet computes."""
    return f"'{text}" if _LOOKS_LIKE_A_FORMULA.match(text) else text


def unguard(cell: str) -> str:
    """The text of a cell that may have been guarded."""
    return cell[1:] if _GUARDED.match(cell) else cell


def clean(text: str, *, many_lines: bool = False) -> str:
    """The value of a text field; raises `ValueError` with what is wrong.

    The same bounds hold for users entered by hand: a line end in a name would become a header field down the line.
    """
    value = text.strip()
    limit = MAX_NOTES if many_lines else MAX_LINE
    if len(value) > limit:
        raise ValueError(f"at most {limit} characters are allowed")
    judged = value.replace("\r\n", " ").replace("\n", " ").replace("\t", " ") if many_lines else value
    if not judged.isprintable() and any(unicodedata.category(char) in _NO_TEXT for char in judged):
        raise ValueError("control characters and line ends are not allowed" if not many_lines else _NO_CONTROLS)
    return value


_NO_CONTROLS: Final = "control characters are not allowed"


def same_text(one: str, other: str) -> bool:
    """Whether two texts differ in the kind of their line ends at most: spreadsheets change it when they save."""
    return one == other or one.replace("\r\n", "\n") == other.replace("\r\n", "\n")
