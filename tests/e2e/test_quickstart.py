"""The quickstart, followed to the letter by a shell: only its folder and its ports are the test's own."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from postern_local.ports import Ports
from postern_local.process import Processes

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).resolve().parents[2]


def commands(directory: Path) -> str:
    """The indented lines of the page up to the second stack; logs are not followed, since that has no end."""
    page = (ROOT / "docs/quickstart.md").read_text().partition("## A second stack")[0]
    lines = [line.removeprefix("    ") for line in page.splitlines() if line.startswith("    ")]
    script = "\n".join(line for line in lines if not line.startswith("make logs"))
    return re.sub(r"(?m)^\. \.local/env$", f". '{directory}/env'", script)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ports = {f"POSTERN_PORT_{name}": str(number) for name, number in Ports.free().numbers.items()}
    mine = {**kept, **ports, "POSTERN_LOCAL_DIR": str(tmp_path)}
    yield mine
    subprocess.run(["make", "down"], cwd=ROOT, env=mine, check=True, timeout=120)
    assert Processes(tmp_path).leftovers() == []


def test_the_quickstart_works_when_it_is_followed_to_the_letter(environment: dict[str, str], tmp_path: Path):
    shell = subprocess.run(
        ["sh", "-eu", "-c", commands(tmp_path)],
        cwd=ROOT,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
    )
    assert shell.returncode == 0, shell.stdout
    assert "urn:postern:problem" not in shell.stdout, shell.stdout
    for words in ('"state":"verified"', "queued as", '"recipient_mode":"known_only"', "is ready (process", "Stopped."):
        assert words in shell.stdout, shell.stdout
