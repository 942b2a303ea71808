"""Which column holds what: by the names in the first row, in any order and case, or by place where there are none."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postern_api.imports.rules.decoding import refused

ALIAS: Final = "alias"
LINES: Final = ("first_name", "last_name", "home_phone", "mobile", "company", "department")
TEXTS: Final = (*LINES, "notes")
IN_ORDER: Final = ("email", *TEXTS)
MAX_COLUMNS: Final = 600
MAX_NAMED: Final = 10
MAX_NAME: Final = 50

_SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "email": ("email", "emailaddress", "mail", "mailaddress", "primaryemail", "primaryaddress", "primarysmtpaddress"),
    "first_name": ("firstname", "givenname", "forename"),
    "last_name": ("lastname", "surname", "familyname"),
    "home_phone": ("homephone", "phonehome", "phone", "telephone", "phonenumber"),
    "mobile": ("mobile", "mobilephone", "mobilenumber", "cell", "cellphone"),
    "company": ("company", "companyname", "organisation", "organization"),
    "department": ("department", "dept"),
    "notes": ("notes", "note", "comment", "comments"),
    ALIAS: (ALIAS, "secondaryaddress", "secondaryemail"),
    "site": ("site", "siteid", "sitename"),
}
_NAMES: Final = {synonym: field for field, synonyms in _SYNONYMS.items() for synonym in synonyms}
_NUMBER: Final = re.compile(r"\d+$")


@dataclass(frozen=True, slots=True)
class Columns:
    """The field that each column holds; None is one that nothing is taken from. Columns behind the last are aliases
    where the file names none.
    """

    fields: tuple[str | None, ...]
    names: tuple[str, ...]
    has_header: bool
    warnings: tuple[str, ...] = ()

    @property
    def has_aliases(self) -> bool:
        """Whether the file says anything of aliases."""
        return ALIAS in self.fields


def field_of(cell: str) -> str | None:
    """The field that a column's name stands for: case, blanks and punctuation do not matter."""
    name = "".join(char for char in unicodedata.normalize("NFKC", cell[:200]).casefold() if char.isalnum())
    field = _NAMES.get(name)
    return field if field is not None else _ALIASES.get(_NUMBER.sub("", name))


_ALIASES: Final = dict.fromkeys(_SYNONYMS[ALIAS], ALIAS)


def find_columns(first: Sequence[str]) -> Columns:
    """Read the first row; refuses one that names no column of addresses, and one that names a column twice."""
    if len(first) > MAX_COLUMNS:
        raise refused(f"There are more than {MAX_COLUMNS} columns.")
    if any("@" in cell for cell in first):
        return _by_place(len(first))
    fields = tuple(field_of(cell) for cell in first)
    if "email" not in fields:
        message = "The first row names no column email, and holds no address. Name the columns, or leave the names out."
        raise refused(message)
    names = tuple(_shown(cell, number) for number, cell in enumerate(first, 1))
    for field, count in Counter(fields).items():
        if count > 1 and field not in {None, ALIAS}:
            places = [number for number, one in enumerate(fields, 1) if one == field]
            message = f"The column {field} is there more than once: columns {', '.join(map(str, places))}."
            raise refused(message)
    return Columns(fields, names, has_header=True, warnings=_warnings(first, fields))


def _by_place(width: int) -> Columns:
    places = max(width, len(IN_ORDER) + 1)
    fields = tuple(IN_ORDER[place] if place < len(IN_ORDER) else ALIAS for place in range(places))
    names = [*IN_ORDER, *(f"alias{number}" for number in range(1, places - len(IN_ORDER) + 1))]
    return Columns(fields, tuple(names), has_header=False)


def _shown(cell: str, number: int) -> str:
    name = "".join(char for char in cell.strip() if char.isprintable())[:MAX_NAME]
    return name or f"column {number}"


def _warnings(first: Sequence[str], fields: Sequence[str | None]) -> tuple[str, ...]:
    unknown = [_shown(cell, 0) for cell, field in zip(first, fields, strict=True) if field is None and cell.strip()]
    if not unknown:
        return ()
    listed = ", ".join(unknown[:MAX_NAMED])
    more = f" and {len(unknown) - MAX_NAMED} more" if len(unknown) > MAX_NAMED else ""
    return (f"Nothing is taken from columns of unknown name: {listed}{more}.",)
