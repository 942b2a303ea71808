"""Workbooks written row by row, with openpyxl."""

import io
from collections.abc import Iterable
from typing import BinaryIO, Final

import openpyxl
from openpyxl.cell import WriteOnlyCell

from postern_api.imports.workbook_xml import escape

MEDIA_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MAX_CELL: Final = 32_767


def write_workbook(file: BinaryIO, rows: Iterable[Iterable[str]]) -> None:
    """Write one sheet of texts."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Users")
    for row in rows:
        cells = []
        for text in row:
            cell = WriteOnlyCell(sheet, value=escape(text)[:MAX_CELL])
            cell.data_type = "s"  # no text becomes a formula or an error
            cells.append(cell)
        sheet.append(cells)
    book.save(file)


def workbook_of(rows: Iterable[Iterable[str]]) -> bytes:
    """A small workbook."""
    file = io.BytesIO()
    write_workbook(file, rows)
    return file.getvalue()
