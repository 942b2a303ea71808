"""Every direct dependency has its reason in docs/dependencies.md, and the page names no other."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def required() -> set[str]:
    lines = (line.strip() for file in ROOT.glob("requirements/*.in") for line in file.read_text().splitlines())
    return {line.lower() for line in lines if line and not line.startswith(("#", "-"))}


def test_each_direct_dependency_has_a_reason_and_no_other_is_listed():
    lines = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line[:2] == "| "]
    cells = [row.split("|") for row in rows if not row.startswith(("| package", "| ---"))]
    named = {name.strip().lower() for cell in cells for name in cell[1].split(",")}
    assert all(cell[3].strip() for cell in cells)
    assert required() - named == set()
    assert named - required() <= {"compose-spec"}
