"""Files as people make them: encodings, delimiters, headers, workbooks (BEHAVIOURS 3.14, CASES 38 to 41)."""

import io
import zipfile
from datetime import datetime

import openpyxl
import pytest

from postern_api.imports import table, workbook_xml
from postern_api.imports.rules.columns import field_of
from postern_api.imports.rules.decoding import CP1252_WARNING, find_encoding, kind_of
from postern_api.imports.table import MAX_ROWS, Record, Source, Table, TextSource
from postern_api.imports.workbook import WorkbookSource, check_archive, number_text
from postern_api.imports.workbook_writer import workbook_of
from postern_common.errors import Rejected


def read(data):
    """The rows of a text, and its warnings."""
    table = Table(TextSource(io.BytesIO(data if isinstance(data, bytes) else data.encode())))
    rows = list(table.rows())
    return rows, table.warnings


def told(rows):
    return [(row.number, row.email, row.texts.get("first_name"), row.texts.get("last_name")) for row in rows]


@pytest.mark.spec("U3")
@pytest.mark.parametrize("name", ["name", '"name"'])
def test_case_38_a_mark_does_not_stick_to_the_first_name(name):
    rows, warnings = read(
        b"\xef\xbb\xbf" + f"{name};firstname;lastname;email;password\r\nx;Zoë;Lee;x@d.com;s\r\n".encode()
    )
    assert told(rows) == [(2, "x@d.com", "Zoë", "Lee")]
    assert warnings == ["Nothing is taken from columns of unknown name: name, password."]
    rows, _ = read(b"\xef\xbb\xbf" + b'"Email","First Name"\r\nx@d.com,Ann\r\n')
    assert told(rows) == [(2, "x@d.com", "Ann", None)]


@pytest.mark.spec("U3")
@pytest.mark.parametrize(
    "text, number",
    [
        ("sep=;\r\nemail;first_name\r\nx@d.com;Lee, Ann\r\n", 3),
        ('"sep=;"\r\nemail;first_name\r\nx@d.com;Lee, Ann\r\n', 3),
        ("email;first_name\r\nx@d.com;Lee, Ann\r\n", 2),
        ("email\tfirst_name\nx@d.com\tLee, Ann\n", 2),
        ('first_name,email\n"Lee, Ann",x@d.com\n', 2),
        ("x@d.com;Lee, Ann;;;;a;b\ny@d.com;Lee, Bob", 1),
    ],
)
def test_case_39_the_delimiter_is_found_and_a_sep_line_is_no_row(text, number):
    rows, _ = read(text)
    assert told(rows)[0][:3] == (number, "x@d.com", "Lee, Ann")


@pytest.mark.spec("U3")
def test_case_40_windows_1252_is_read_with_a_warning():
    rows, warnings = read("last_name; email \r\nMüller; x@d.com \r\n".encode("cp1252"))
    assert told(rows) == [(2, "x@d.com", None, "Müller")]
    assert warnings == [CP1252_WARNING]


@pytest.mark.spec("U3")
@pytest.mark.parametrize("codec, mark", [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("utf-16-le", b"")])
def test_case_40_utf_16_is_read(codec, mark):
    rows, warnings = read(mark + "email\tlast_name\r\nx@d.com\tMüller\r\n".encode(codec))
    assert told(rows) == [(2, "x@d.com", None, "Müller")]
    assert warnings == []


@pytest.mark.spec("U3")
@pytest.mark.parametrize(
    "data, reason",
    [
        ("email\nMü\n".encode() + b"x\xfc\n", "Line 3 is not UTF-8, although other lines are."),
        (b"\xef\xbb\xbfemail\nx\xfc\n", "Line 2 is not UTF-8, although the file says that it is."),
        (b"\xff\xfe" + "email\n".encode("utf-16-le") + b"\x00\xd8a\x00", "Line 2 is not UTF-16"),
        (b"email\r\r\x9d\xfc", "Line 3 is neither UTF-8 nor Windows-1252."),
        (("email\n" + "ä" * 3000 + "\n").encode() + b"\xff\n", "Line 3 is not UTF-8, although other lines are."),
    ],
)
def test_case_40_what_cannot_be_decoded_is_refused_with_its_line(data, reason):
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    with pytest.raises(Rejected) as refused:
        find_encoding(pieces)
    assert refused.value.message.startswith(reason)


def test_a_letter_that_two_pieces_share_is_one_letter():
    data = ("email\n" + "ü" * 3000).encode()
    assert find_encoding([data[:1001], data[1001:]]).codec == "utf-8"


@pytest.mark.spec("U3")
def test_case_40_a_column_that_is_there_twice_is_refused():
    with pytest.raises(Rejected, match=r"The column email is there more than once: columns 1, 3\."):
        read("email,first_name,E-Mail\nx@d.com,a,y@d.com\n")


@pytest.mark.spec("U3")
@pytest.mark.parametrize(
    "name, field",
    [
        ("EMAIL", "email"), (" E-mail address ", "email"), ("First Name", "first_name"), ("lastName", "last_name"),
        ("Home_Phone", "home_phone"), ("Mobile Phone", "mobile"), ("Organisation", "company"), ("dept", "department"),
        ("Alias 12", "alias"), ("alias1", "alias"), ("ALIAS", "alias"), ("Site", "site"), ("password", None),
        ("email2", None), ("", None),
    ],
)  # fmt: skip
def test_names_of_columns_are_known_in_any_case(name, field):
    assert field_of(name) == field


@pytest.mark.spec("U3")
def test_without_names_columns_stand_in_their_order_and_the_rest_are_aliases():
    rows, _ = read("x@d.com,Ann,Lee,1,2,Co,Dep,Note,a@d.com,b@d.com\ny@d.com\n")
    first, second = rows
    assert list(first.texts.values()) == ["Ann", "Lee", "1", "2", "Co", "Dep", "Note"]
    assert [str(alias) for _, alias in first.aliases] == ["a@d.com", "b@d.com"]
    assert (second.number, second.texts, second.aliases) == (2, {}, None)


@pytest.mark.spec("U3")
def test_quoted_line_breaks_stay_in_their_cell_and_rows_keep_their_numbers():
    rows, _ = read('email,notes\n\n"x@d.com","one\r\ntwo"\n,,\ny@d.com,\n')
    assert [(row.number, row.texts["notes"]) for row in rows] == [(3, "one\r\ntwo"), (5, "")]


@pytest.mark.spec("U3")
def test_a_row_with_stray_quotes_or_too_many_cells_is_wrong_alone():
    rows, _ = read('email,first_name\n"x@d.com"x,a\ny@d.com,Ann,more\nz@d.com,O"Neill\n')
    faults = [[(fault.column, fault.message) for fault in row.faults] for row in rows]
    assert faults == [
        [("", "The quotes of this row do not match.")],
        [("", "The row has more cells than there are columns (2).")],
        [],
    ]
    assert rows[2].texts["first_name"] == 'O"Neill'


@pytest.mark.spec("U3")
def test_case_15_an_apostrophe_is_a_letter_like_others():
    rows, _ = read("email,last_name,alias1\no'brien@d.com,O'Brien,'quoted'@d.com\n'plus@d.com,'t Hooft,\n")
    assert [row.email for row in rows] == ["o'brien@d.com", "'plus@d.com"]
    assert [row.texts["last_name"] for row in rows] == ["O'Brien", "'t Hooft"]
    assert not any(row.faults for row in rows)


@pytest.mark.spec("U3")
def test_a_fault_names_the_column_as_the_file_does():
    rows, _ = read('E-Mail,Given Name,Notes\nx@d.com,"a\nb",\nx@d.com,' + "a" * 201 + ",\ty\n")
    assert [(fault.column, fault.message) for row in rows for fault in row.faults] == [
        ("Given Name", "Control characters and line ends are not allowed."),
        ("Given Name", "At most 200 characters are allowed."),
    ]


@pytest.mark.spec("U3")
@pytest.mark.parametrize(
    "text, reason",
    [
        ("\r\n \r\n", "The file is empty."),
        ("first_name\nAnn\n", "The first row names no column email"),
        ("email\n" + "a" * (1024 * 1024 + 1), "Line 2 is longer"),
        ('email,notes\nx@d.com,"' + "a\n" * 80_000, "Row 2: a cell is too long, or a quote is never closed."),
        ('email,notes\nx@d.com,"open\n', "Row 2: a quote is opened and never closed."),
        ("email\n" + "x@d.com\n" * (MAX_ROWS + 1), "There are more than 100000 rows."),
        ("email\nx@d.com\n" + '"a\n",' * 400_000, "Row 3 is longer than 1048576 characters, or a quote is never"),
        (
            'email,notes\nx@d.com,"a\nb"\n' + '"a\n",' * 400_000,
            "Row 3 (line 4) is longer than 1048576 characters, or a quote is never",
        ),
        ('email,notes\nx@d.com,"a\nb"\nx@d.com,"' + "a\n" * 80_000, "Row 3 (line 4): a cell is too long"),
        ('email,notes\nx@d.com,"a\nb"\nx@d.com,"open\n', "Row 3 (line 4): a quote is opened and never closed."),
        ("email\n" + "\n" * 1_048_574 + "x@d.com\n,\n", "There are more than 1048576 rows, empty ones counted."),
        ("email" + ",a" * 600, "There are more than 600 columns."),
    ],
)
def test_a_file_that_is_no_list_of_users_is_refused(text, reason):
    with pytest.raises(Rejected) as refused:
        read(text)
    assert refused.value.message.startswith(reason)


@pytest.mark.spec("U3")
def test_cells_that_hold_too_much_together_are_refused():
    class Repeating(Source):
        def __init__(self):
            self.warnings = []

        def records(self):
            yield Record(1, ["email", "notes"])
            for number in range(2, 90_000):
                yield Record(number, [f"u{number}@d.com", "n" * 4000])

    with pytest.raises(Rejected) as refused:
        for _ in Table(Repeating()).rows():
            pass
    assert refused.value.message == "The cells hold more than 67108864 characters. Split the file."


@pytest.mark.spec("U3")
def test_so_many_cells_may_be_filled_and_empty_ones_do_not_count(monkeypatch):
    monkeypatch.setattr(table, "MAX_CELLS", 6)
    rows, _ = read("email,alias1,alias2\na@d.com,,\n,,\nb@d.com,b2@d.com\n")
    assert [row.email for row in rows] == ["a@d.com", "b@d.com"]
    with pytest.raises(Rejected, match=r"^More than 6 cells are not empty\. Split"):
        read("email,alias1,alias2\na@d.com,,\nb@d.com,b2@d.com,b3@d.com\n")


@pytest.mark.spec("U3")
def test_so_many_cells_may_a_sheet_have_and_empty_ones_count(monkeypatch):
    book = workbook_of([["email", ""], ["a@d.com", ""]])
    monkeypatch.setattr(workbook_xml, "MAX_CELLS", 4)
    assert len(list(Table(WorkbookSource(io.BytesIO(book))).rows())) == 1
    monkeypatch.setattr(workbook_xml, "MAX_CELLS", 3)
    with pytest.raises(Rejected, match=r"^The sheet has more than 3 cells, empty ones counted"):
        list(Table(WorkbookSource(io.BytesIO(book))).rows())


@pytest.mark.parametrize(
    "head, reason",
    [
        (b"", "empty"), (b" \r\n", "empty"), (bytes.fromhex("d0cf11e0a1b11ae1"), "old Excel workbook"),
        (b"%PDF-1.7\n\0\1\2", "neither text nor"), (b"\x7fELF\2\1\1\0\0\0", "neither text nor"),
    ],
)  # fmt: skip
def test_other_kinds_of_files_are_named(head, reason):
    with pytest.raises(Rejected, match=reason):
        kind_of(head)


@pytest.mark.spec("U3")
def test_text_that_is_named_as_a_workbook_is_refused_with_that():
    assert kind_of(b"email\r\nann@acme.com", "Users.csv") == "text"
    with pytest.raises(Rejected, match="no XLSX workbook, although"):
        kind_of(b"email\r\nann@acme.com", "Users.XLSX")


@pytest.mark.spec("U3")
def test_a_workbook_is_read_as_rows_of_text():
    table = Table(WorkbookSource(io.BytesIO(workbook_of([["email", "mobile"], [], ["x@d.com", "'+44 7"]]))))
    (row,) = list(table.rows())
    assert (row.number, row.email, row.texts) == (3, "x@d.com", {"mobile": "+44 7"})
    assert number_text("4.477009E+11") == number_text("447700900000") == "447700900000"
    assert (number_text("1.5"), number_text("-3")) == ("1.5", "-3")


def archive(method=zipfile.ZIP_DEFLATED, **files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        for name, data in {"[Content_Types].xml": b"", "xl/workbook.xml": b"", **files}.items():
            packed.writestr(name, data)
    return file


@pytest.mark.spec("U3")
@pytest.mark.parametrize(
    "file, reason",
    [
        (archive(**{"xl/worksheets/sheet1.xml": b"0" * (8 * 1024 * 1024)}), "too large when it is unpacked"),
        (archive(**{f"x{number}": b"" for number in range(2001)}), "too large when it is unpacked"),
        (archive(**{"x" * 60_000 + str(number): b"" for number in range(20)}), "too large when it is unpacked"),
        (archive(zipfile.ZIP_BZIP2, **{"xl/worksheets/sheet1.xml": b"0" * 1_000_000}), "no XLSX workbook"),
        (io.BytesIO(b"PK\x03\x04 damaged"), "no XLSX workbook"),
    ],
)
def test_a_workbook_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(file, reason):
    with pytest.raises(Rejected, match=reason):
        check_archive(file)


def with_sheet(change):
    """A workbook whose sheet was changed by hand."""
    source = io.BytesIO(workbook_of([["email"], ["x@d.com"]]))
    made = io.BytesIO()
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(made, "w") as packed:
        for name in given.namelist():
            data = given.read(name)
            packed.writestr(name, change(data) if name == "xl/worksheets/sheet1.xml" else data)
    return made


@pytest.mark.spec("U3")
@pytest.mark.parametrize(
    "change",
    [
        lambda sheet: b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + sheet,
        lambda sheet: sheet.replace(b"<sheetData>", b"<sheetData>" + b"<x>" * 40),
        lambda sheet: sheet.replace(b"<sheetData>", b"<sheetData><row>" + b"<c/>" * 20_001 + b"</row>"),
        lambda sheet: sheet.replace(b"<sheetData>", b'<sheetData><row a="' + b"a" * 2_000_000 + b'"/>'),
        lambda sheet: sheet.replace(b"<sheetData>", b'<sheetData><row r="9999999999"/>'),
        lambda sheet: sheet.replace(b"</sheetData>", b"<row><c><v>" + b"1" * 70_000 + b"</v></c></row></sheetData>"),
        lambda sheet: sheet.replace(b"</sheetData>", b'<row><c t="s"><v>99</v></c></row></sheetData>'),
        lambda sheet: sheet[:-20],
    ],
)
def test_a_sheet_that_no_spreadsheet_writes_is_refused(change):
    with pytest.raises(Rejected, match="no XLSX workbook"):
        list(Table(WorkbookSource(with_sheet(change))).rows())


@pytest.mark.spec("U3")
def test_dates_numbers_and_gaps_of_a_sheet_become_text():
    file = io.BytesIO()
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet["B2"], sheet["C2"], sheet["E2"], sheet["F2"] = "Email", "Notes", "Mobile", "Company"
    sheet["B5"], sheet["C5"], sheet["E5"] = "x@d.com", datetime(2026, 5, 1), 447700900000  # noqa: DTZ001
    sheet["F5"] = "=1+1"
    book.save(file)
    (row,) = list(Table(WorkbookSource(file)).rows())
    assert row.number == 5
    assert row.texts == {"notes": "2026-05-01", "mobile": "447700900000"}


def test_a_damaged_workbook_is_refused_wherever_the_damage_is():
    whole, refused, places = workbook_of([["email"], ["x@d.com"]]), 0, 0
    for at in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[at : at + 8] = b"\xff" * 8
        places += 1
        try:  # anything else than a refusal would be tried again and again
            rows = list(Table(WorkbookSource(io.BytesIO(bytes(damaged)))).rows())
        except Rejected:
            refused += 1
        else:  # in a part that is not read, such as the theme
            assert [row.number for row in rows] == [2]
    assert 0 < refused <= places
