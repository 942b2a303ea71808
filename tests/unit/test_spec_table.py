"""`make spec` reads rules and marks from text, and never takes a mark for a proof of a rule that does not exist."""

import json

import pytest

from tools.spec import collect_proofs, main, parse_rules

PAGE = """
# A page

- D1 A domain is added
  with a code.
- D2 Verify now.

- S14a A later thought.

Not a rule, and nothing of rule S14a.
"""


def test_rules_are_read_with_their_continuation_lines():
    rules = parse_rules(PAGE)
    assert list(rules) == ["D1", "D2", "S14a"]
    assert rules["D1"].text == "A domain is added with a code."
    assert rules["S14a"].text == "A later thought."


def test_a_rule_number_used_twice_is_refused():
    with pytest.raises(ValueError, match="D1 stands twice"):
        parse_rules("- D1 One\n- D1 Other\n")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('@pytest.mark.spec("D1", "D2")\ndef test_a(): ...', [("D1", "test_a"), ("D2", "test_a")]),
        ('@pytest.mark.spec("D1")\nasync def test_b(): ...', [("D1", "test_b")]),
        ('@pytest.mark.spec("D1")\nclass TestIt:\n    def test_c(self): ...', [("D1", "TestIt")]),
        ('pytestmark = [pytest.mark.spec("D2")]', [("D2", "(whole file)")]),
        (
            '@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.spec("D2"))])\ndef test_d(x): ...',
            [("D2", "test_d")],
        ),
        ('def test_e():\n    """names spec("D1") in words"""', []),
    ],
)
def test_marks_are_found_wherever_pytest_takes_them(source, expected):
    assert [(proof.rule, proof.test) for proof in collect_proofs("test_x.py", source)] == expected


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/spec.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "services/api/tests").mkdir(parents=True)
    test = '@pytest.mark.spec("D1")\ndef test_code(): ...\n'
    (tmp_path / "services/api/tests/test_api_code.py").write_text(test, encoding="utf-8")
    return tmp_path


def test_table_shows_tests_and_what_has_none(repository, capsys):
    assert main([], repository) == 0
    table = capsys.readouterr().out
    assert "services/api/tests/test_api_code.py:1 test_code" in table
    assert "1 of 3 rules have a test. Without: D2, S14a" in table


def test_a_required_rule_without_test_fails(repository, capsys):
    assert main(["--require", "D1"], repository) == 0
    assert main(["--require", "D1,D2"], repository) == 1
    assert "without a test: D2" in capsys.readouterr().err


def test_a_mark_that_names_no_rule_fails(repository, capsys):
    stray = '@pytest.mark.spec("Z9")\ndef test_nothing(): ...\n'
    (repository / "services/api/tests/test_api_stray.py").write_text(stray, encoding="utf-8")
    assert main([], repository) == 1
    assert "test_nothing names the rule Z9" in capsys.readouterr().err


def test_json_holds_each_rule_with_its_tests(repository, capsys):
    main(["--json"], repository)
    rules = json.loads(capsys.readouterr().out)
    assert [(rule["id"], len(rule["tests"])) for rule in rules] == [("D1", 1), ("D2", 0), ("S14a", 0)]
