"""The written pages: links lead somewhere, decisions have their parts, the README begins with the two commands."""

import re
from pathlib import Path

import pytest

from postern_common import topology
from postern_common.events import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("services/*/*.md")]
)
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith(("#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_has_its_four_parts(page):
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences", "Alternatives"]


def test_decisions_are_numbered_without_gaps():
    numbers = [int(page.name[:4]) for page in DECISIONS if page.name != "template.md"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(page.read_text(encoding="utf-8").startswith(f"# {page.name[:4]}: ") for page in DECISIONS[:-1])


def test_readme_begins_with_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("## Two commands") == text.index("## ")
    assert re.findall(r"^    (make \w+)", text, re.MULTILINE)[:2] == ["make run", "make test"]


def test_commands_that_pages_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, name(page)


def test_metrics_that_operations_names_exist():
    reference = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    named = set(
        re.findall(
            r"`(postern_(?:common|edge|dns|api|sync|deletion)_[a-z_]+)", (ROOT / "docs/operations.md").read_text()
        )
    )
    assert named
    assert {metric for metric in named if f"`{metric}`" not in reference} == set()


@pytest.mark.parametrize("service", ["api", "smtp-edge", "dns-verifier", "directory-sync", "deletion-scheduler"])
def test_a_service_page_names_its_events_as_the_catalogue_does(service):
    text = (ROOT / "services" / service / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (Events in|Events out|Owns|Settings) \| (.+) \|$", text, re.MULTILINE))
    events = {way: {name.strip() for name in rows[way].split(",")} - {"none"} for way in ("Events in", "Events out")}
    assert events["Events in"] == set(topology.consumed_by(service))
    assert events["Events out"] <= set(CATALOGUE)
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "services" / service / "src").rglob("*.py"))
    assert {name for name in events["Events out"] if f"{name}(" not in source and f"{name}," not in source} == set()
    assert "## Runbook" in text
