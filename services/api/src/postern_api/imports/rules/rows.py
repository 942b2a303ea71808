"""One row of a file: its values, or what is wrong with them, each fault with its column (SPEC U3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from postern_api.imports.rules.cells import clean, unguard
from postern_api.imports.rules.columns import ALIAS, TEXTS, Columns
from postern_common.addresses import Address, parse_address
from postern_common.errors import Rejected

MAX_ALIASES: Final = 500
MAX_SHOWN: Final = 254


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong in one cell."""

    column: str
    message: str


@dataclass(slots=True)
class Row:
    """A row as read. `texts` holds the fields that the row says something of; `aliases` and `site` are None where the
    row does not: what a file does not say is left as it is.
    """

    number: int
    email: str = ""
    address: Address | None = None
    texts: dict[str, str] = field(default_factory=dict)
    aliases: list[tuple[str, Address]] | None = None
    site: str | None = None
    faults: list[Fault] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """What its addresses are compared by, the primary one first."""
        own = [self.address.key] if self.address is not None else []
        return own + [alias.key for _, alias in self.aliases or ()]


def read_row(number: int, cells: Sequence[str], columns: Columns) -> Row:
    """Read a row of the file; a cell that a short row does not have says nothing."""
    row = Row(number)
    _check_width(row, cells, columns)
    for cell, name, what in zip(cells, columns.names, columns.fields, strict=False):
        text = unguard(cell)
        if what == "email":
            row.address = _address(row, name, text)
            row.email = _shown(text) if row.address is None else str(row.address)
        elif what == ALIAS:
            _add_alias(row, name, text)
        elif what == "site":
            row.site = text.strip()
        elif what is not None:
            _add_text(row, name, what, text)
    if row.address is None and not row.faults:
        row.faults.append(Fault("email", "An address is needed."))
    return row


def broken_row(number: int, message: str) -> Row:
    """A row whose cells cannot be told apart."""
    return Row(number, faults=[Fault("", message)])


def _check_width(row: Row, cells: Sequence[str], columns: Columns) -> None:
    surplus = [cell for cell in cells[len(columns.fields) :] if cell.strip()]
    if surplus:
        message = f"The row has more cells than there are columns ({len(columns.fields)})."
        row.faults.append(Fault("", message))


def _address(row: Row, name: str, text: str) -> Address | None:
    if not text.strip():
        row.faults.append(Fault(name, "An address is needed."))
        return None
    try:
        return parse_address(text)
    except Rejected as error:
        row.faults.append(Fault(name, error.message))
        return None


def _add_alias(row: Row, name: str, text: str) -> None:
    if row.aliases is None:
        row.aliases = []
    if not text.strip():
        return
    if len(row.aliases) >= MAX_ALIASES:
        row.faults.append(Fault(name, f"A user may have {MAX_ALIASES} aliases at most."))
        return
    address = _address(row, name, text)
    if address is not None:
        row.aliases.append((name, address))


def _add_text(row: Row, name: str, what: str, text: str) -> None:
    try:
        row.texts[what] = clean(text, many_lines=what == "notes")
    except ValueError as error:
        row.faults.append(Fault(name, f"{str(error)[0].upper()}{str(error)[1:]}."))


def _shown(text: str) -> str:
    return "".join(char for char in text.strip() if char.isprintable())[:MAX_SHOWN]


def export_cells(texts: dict[str, str], email: str, aliases: Sequence[str], width: int, site: str) -> list[str]:
    """The unguarded cells of a user, in the order of `export_header`."""
    padded = [*aliases, *[""] * (width - len(aliases))]
    head = [email, *(texts[name] for name in TEXTS)]
    # More aliases than columns came while the file was written: they stand behind the last one, unseen by no reader.
    return [*head, *padded[:width], site, *padded[width:]]


def export_header(width: int) -> list[str]:
    """The names of the columns, with `width` columns of aliases."""
    return ["email", *TEXTS, *(f"alias{number}" for number in range(1, width + 1)), "site"]
