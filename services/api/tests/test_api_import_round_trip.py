"""What goes out comes back the same, and no cell is a formula (SPEC U3, CASES 43, 44)."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from postern_api.http.schemas import Line, Notes
from postern_api.imports.export import SAMPLE, csv_of, sample_csv, sample_xlsx
from postern_api.imports.rules.cells import clean, guard, unguard
from postern_api.imports.rules.columns import LINES, TEXTS
from postern_api.imports.rules.review import Known, Outcome, Sites, review
from postern_api.imports.rules.rows import export_cells, export_header
from postern_api.imports.table import Table, TextSource
from postern_api.imports.workbook import WorkbookSource
from postern_api.imports.workbook_writer import workbook_of

FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1", "@x", "\tx", "\rx", '=1,"2"', "'=1", "''+1", "'", "'x", "=", "-"]
NASTY = st.sampled_from([*FORMULAS, ",", ";", '"', "'", "sep=;", "email", "Zoë", "=1;2", "a\u00a0b", "\U0001f600"])
PLAIN = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30)
LINE = (NASTY | PLAIN).map(str.strip).filter(lambda text: "\t" not in text and "\r" not in text)
NOTES = st.lists(LINE, max_size=3).map("\n".join).map(str.strip)
LOCAL: st.SearchStrategy[str] = st.from_regex(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}", fullmatch=True)
USERS = st.lists(
    st.fixed_dictionaries(
        {"local": LOCAL, "aliases": st.lists(LOCAL, max_size=3), "notes": NOTES, **dict.fromkeys(LINES, LINE)}
    ),
    max_size=5,
    unique_by=lambda user: str(user["local"]).casefold(),
)


@pytest.mark.spec("U3")
@pytest.mark.parametrize("text", FORMULAS)
def test_case_43_no_cell_begins_as_a_formula(text):
    if text[0] in "=+-@\t\r":
        assert guard(text) == "'" + text
    assert guard(text)[0] not in "=+-@\t\r"
    written = csv_of([[guard(text), "x"]]).decode()
    assert written.lstrip('"')[0] not in "=+-@\t\r"
    assert next(csv.reader(io.StringIO(written, newline="")))[0] == guard(text)


@pytest.mark.spec("U3")
@pytest.mark.parametrize("text", ["\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20x", " =1", "\u3000\uff1d1", "\n=1"])
def test_case_43_full_width_forms_and_blanks_before_are_guarded_too(text):
    assert guard(text) == "'" + text
    assert unguard(guard(text)) == text


@pytest.mark.spec("U3")
@given(st.text())
def test_case_44_the_guard_comes_off_again(text):
    assert unguard(guard(text)) == text


def stored(users):
    """Users as the database has them, no address twice."""
    seen = {user["local"].casefold() for user in users}
    found = []
    for number, user in enumerate(users):
        aliases = []
        for local in user["aliases"]:
            if local.casefold() not in seen:
                seen.add(local.casefold())
                aliases.append({"address": f"{local}@d.com", "key": f"{local.casefold()}@d.com", "source": "csv"})
        texts = {name: user[name] for name in TEXTS}
        email = f"{user['local']}@d.com"
        found.append(
            {"_id": f"usr_{number}", "version": 1, "email": email, "email_key": email.casefold(), "aliases": aliases}
            | {"source": "csv", "site_id": [None, "sit_a", "sit_b"][number % 3], **texts}
        )
    return found


def exported(users, sites):
    width = max((len(user["aliases"]) for user in users), default=0)
    rows = [export_header(width)]
    for user in users:
        aliases = [alias["address"] for alias in user["aliases"]]
        texts = {name: user[name] for name in TEXTS}
        cells = export_cells(texts, user["email"], aliases, width, sites.name_of(user["site_id"]))
        rows.append([guard(cell) for cell in cells])
    return rows


@pytest.mark.spec("U3")
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@given(users=USERS, descriptions=st.tuples(LINE, LINE))
@settings(max_examples=40, deadline=None)
def test_case_44_an_export_that_is_imported_changes_nothing(kind, users, descriptions):
    present = stored(users)
    sites = Sites(dict(zip(["sit_a", "sit_b"], descriptions, strict=True)))
    rows = exported(present, sites)
    written = csv_of(rows) if kind == "csv" else workbook_of(rows)
    table = Table((TextSource if kind == "csv" else WorkbookSource)(io.BytesIO(written)))
    owners = {key: user["_id"] for user in present for key in keys_of(user)}
    known = Known({"d.com"}, sites, owners, {user["_id"]: user for user in present})
    nothing = Known({"d.com"}, sites, {}, {})
    read = list(table.rows())
    assert len(read) == len(present)
    for user, row in zip(present, read, strict=True):
        assert row.faults == []
        again = review(row, known, "update", lambda key: None)
        assert (again.outcome, again.user_id) == (Outcome.UNCHANGED, user["_id"])
        fresh = review(row, nothing, "update", lambda key: None)
        assert fresh.outcome is Outcome.CREATE
        assert fresh.after == {
            "email": user["email"],
            "aliases": [alias["address"] for alias in user["aliases"]],
            "site_id": user["site_id"],
            **{name: user[name] for name in TEXTS},
        }


def keys_of(user):
    return [user["email_key"], *(alias["key"] for alias in user["aliases"])]


@pytest.mark.spec("U3")
@given(st.text(max_size=250))
@settings(deadline=None)
def test_a_cell_may_hold_what_a_field_of_a_user_entered_by_hand_may(text):
    for kind, many_lines in ((Line, False), (Notes, True)):
        try:
            by_hand = TypeAdapter(kind).validate_python(text)
        except ValidationError:
            by_hand = None
        try:
            imported = clean(text, many_lines=many_lines)
        except ValueError:
            imported = None
        # Python takes a few controls at the ends for blanks, which the schema library refuses.
        assert imported == by_hand or (by_hand is None and imported == clean(text.strip("\x1c\x1d\x1e\x1f\x85 ")))


@pytest.mark.spec("U3")
def test_both_samples_can_be_imported():
    sources = [TextSource(io.BytesIO(sample_csv())), WorkbookSource(io.BytesIO(sample_xlsx()))]
    for table in map(Table, sources):
        rows = list(table.rows())
        assert [row.email for row in rows] == [row[0] for row in SAMPLE[1:]]
        assert not any(row.faults for row in rows)
        assert table.warnings == []
        assert rows[0].texts["home_phone"] == "+44 20 7946 0000"
