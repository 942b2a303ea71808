"""docs/spec.md holds the rules of the page that the whole project shares, word for word."""

from pathlib import Path

import pytest

from tools.spec import parse_rules

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "spec" / "SPEC.md"


def test_the_page_has_rules_of_every_chapter():
    rules = parse_rules((ROOT / "docs/spec.md").read_text(encoding="utf-8"))
    assert {rule[0] for rule in rules} == set("TDUSLEXRFGV")


@pytest.mark.skipif(not SHARED.is_file(), reason="the shared specification page is not beside this repository")
def test_rules_equal_the_shared_page():
    ours = parse_rules((ROOT / "docs/spec.md").read_text(encoding="utf-8"))
    shared = parse_rules(SHARED.read_text(encoding="utf-8"))
    texts = {name: _without_own_events(rule.text) if name == "V1" else rule.text for name, rule in ours.items()}
    assert texts == {name: _as_words(rule.text) if name == "V1" else rule.text for name, rule in shared.items()}


def _without_own_events(text: str) -> str:
    """V1 grows with the catalogue: what it names beyond the shared page."""
    return _as_words(text.replace("UserDeletionDue, ", ""))


def _as_words(text: str) -> str:
    return " ".join(text.split())
