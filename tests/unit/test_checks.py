"""Each check finds what it is for, and leaves alone what is fine."""

from pathlib import Path

import pytest

from tools.check import findings, main
from tools.checks import Source
from tools.checks.database import database_only_in_stores, drivers_only_behind_adapters, scope_is_named
from tools.checks.literals import problems_only_from_catalogue, replies_only_from_catalogue
from tools.checks.purity import rules_are_pure
from tools.checks.references import rfc_references_have_one_form
from tools.checks.sizes import files_and_functions_are_short
from tools.checks.text import lock_files_name_no_place, names_hosts, nothing_left_to_do, text_names_no_machine

API = "services/api/src/postern_api"
EDGE = "services/smtp-edge/src/postern_edge"


def lines(check, path, text):
    return [finding.line for finding in check(Source(path, text))]


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        (f"{API}/domains/routes.py", 'x = 1\nself._db["users"].find()', [2]),
        (f"{API}/domains/service.py", "mongo.collection(USERS, scope)", [1]),
        (f"{API}/domains/store.py", "mongo.collection(USERS, scope)", []),
        (f"{EDGE}/spool.py", 'db["bodies"]', []),
        (f"{API}/spool.py", 'db["bodies"]', [1]),
        ("services/smtp-edge/tests/test_x.py", 'db["bodies"]', []),
        ("tests/integration/test_x.py", 'db["bodies"]', []),
    ],
)
def test_database_is_reached_only_from_stores(path, text, found):
    assert lines(database_only_in_stores, path, text) == found


@pytest.mark.spec("T2")
def test_a_store_that_names_no_scope_is_found():
    text = "a = mongo.collection(USERS, scope)\nb = mongo.collection(USERS)\nc = client.get_database()"
    assert lines(scope_is_named, f"{API}/users/store.py", text) == [2, 3]


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        (f"{EDGE}/delivery.py", "import aiosmtplib", [1]),
        (f"{EDGE}/adapters/smtp.py", "import aiosmtplib", []),
        (f"{API}/users/service.py", "from motor.motor_asyncio import AsyncIOMotorClient", [1]),
        (f"{API}/users/store.py", "from pymongo.errors import DuplicateKeyError", []),
        ("libs/common/src/postern_common/bus.py", "import aio_pika", []),
    ],
)
def test_drivers_are_imported_only_where_they_are_wrapped(path, text, found):
    assert lines(drivers_only_behind_adapters, path, text) == found


@pytest.mark.parametrize(
    ("statement", "pure"),
    [
        ("from datetime import datetime", True),
        ("from pydantic import BaseModel", True),
        ("from postern_common.events import DomainAdded", True),
        ("from postern_common import ids", True),
        ("from postern_edge.rules.loops import count", True),
        ("from postern_common.mongo import Mongo", False),
        ("from postern_common import bus", False),
        ("from postern_edge.spool import Spool", False),
        ("import socket", False),
        ("import dns.resolver", False),
    ],
)
def test_rules_import_only_what_cannot_act(statement, pure):
    source = Source(f"{EDGE}/rules/verdict.py", statement)
    assert (list(rules_are_pure(source)) == []) is pure
    assert list(rules_are_pure(Source(f"{EDGE}/listener.py", statement))) == []


def test_smtp_replies_stand_only_in_their_catalogue():
    text = '"""250 ok is what we say."""\na = "250 2.0.0 ok"\nb = b"421-busy"\nc = "250ms"\nd = "127.0.0.1 x"'
    assert lines(replies_only_from_catalogue, f"{EDGE}/protocol.py", text) == [2, 3]
    assert lines(replies_only_from_catalogue, f"{EDGE}/replies.py", text) == []
    assert lines(replies_only_from_catalogue, f"{API}/app.py", text) == []


def test_http_problems_stand_only_in_their_catalogue():
    text = 'media = "application/problem+json"\nraise HTTPException(404)'
    assert lines(problems_only_from_catalogue, f"{API}/users/routes.py", text) == [1, 2]
    assert lines(problems_only_from_catalogue, f"{API}/http/problems.py", text) == []


def test_long_files_and_functions_are_found():
    function = "def f():\n" + "    x = 1\n" * 59
    assert lines(files_and_functions_are_short, "tools/x.py", function) == [1]
    assert lines(files_and_functions_are_short, "tools/x.py", "def f():\n" + "    x = 1\n" * 58) == []
    assert lines(files_and_functions_are_short, "tools/x.py", "x = 1\n" * 400) == [400]
    assert lines(files_and_functions_are_short, "tools/x.py", "x = 1\n" * 399) == []


@pytest.mark.parametrize(
    ("comment", "fine"),
    [
        ("# RFC 5321 4.5.3.1.8", True),
        ("# RFC 3464, 5 days", True),
        ("# RFC 5321 4.4: Received comes first", True),
        ("# RFC 5321 and RFC 5322 3.6", True),
        ("# Content-Type message/rfc822", True),
        ("# RFC5321 4.5", False),
        ("# RFC 5321 section 4.5", False),
        ("# RFC 5321, section 4.5", False),
        ("# RFC 5321 \N{SECTION SIGN}4.5", False),
        ("# RFC-5321", False),
    ],
)
def test_references_to_standards_have_one_form(comment, fine):
    assert lines(rfc_references_have_one_form, "tools/x.py", f"x = 1\n\n{comment}\n") == ([] if fine else [3])


def test_references_in_docstrings_are_checked_on_their_own_line():
    text = 'def f():\n    """Something.\n\n    After RFC 5321 section 4.5.\n    """\n'
    assert lines(rfc_references_have_one_form, "tools/x.py", text) == [4]


def test_paths_of_a_machine_are_found_in_any_file():
    text = "fine: network/work/x and ./work/y\n" + "bad: /" + "work/main"
    assert lines(text_names_no_machine, "README.md", text) == [2]


def test_hosts_of_registries_are_found():
    source = Source("Makefile", "pip install x\npip install --index https://mirror.example/simple x\n")
    assert [finding.line for finding in names_hosts(source, frozenset({"mirror.example"}))] == [2]
    assert list(names_hosts(source, frozenset())) == []


def test_work_left_undone_is_found():
    assert lines(nothing_left_to_do, "docs/x.md", "to do later\n" + "TO" + "DO: later\n") == [2]


@pytest.mark.parametrize("name", ["constraints.txt", "requirements/dev.txt"])
def test_lock_files_name_no_place(name):
    text = "# from https://example.org\naiosmtpd==1.4.6 --hash=sha256:aa\nx @ https://example.org/x.whl\n"
    assert lines(lock_files_name_no_place, name, text) == [3]
    assert lines(lock_files_name_no_place, "docs/notes.txt", text) == []


def test_a_file_that_does_not_parse_is_a_finding():
    assert next(str(finding) for finding in findings([Source("tools/x.py", "def f(:\n")])).startswith("tools/x.py:1:")


def test_this_repository_keeps_its_conventions(capsys):
    root = Path(__file__).resolve().parents[2]
    assert main(root) == 0, capsys.readouterr().out
