"""`make soak` goes on where it was stopped."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TWO_TESTS = """
import os

def test_one():
    print("one runs")

def test_two():
    print("two runs")
    assert "BROKEN" not in os.environ
"""


def run(folder, **environment):
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "tools.soak_resume", "test_two_of_them.py"]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, "one runs" in done.stdout, "two runs" in done.stdout


def test_what_passed_is_left_out_until_all_has_passed_and_then_all_runs_again(tmp_path: Path):
    (tmp_path / "test_two_of_them.py").write_text(TWO_TESTS)
    assert run(tmp_path, BROKEN="1") == (1, True, True)
    assert run(tmp_path, BROKEN="1") == (1, False, True)
    assert run(tmp_path) == (0, False, True)
    assert run(tmp_path) == (0, True, True)


def test_another_commit_begins_anew(tmp_path: Path):
    (tmp_path / "test_two_of_them.py").write_text(TWO_TESTS)
    assert run(tmp_path, BROKEN="1") == (1, True, True)
    record = tmp_path / ".local/soak-passed"
    record.write_text(record.read_text().replace("unknown", "a1b2c3"))
    assert run(tmp_path, BROKEN="1") == (1, True, True)
