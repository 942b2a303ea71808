"""The Dockerfiles: no root, no compiler, pinned and hashed packages; and their steps work, tried in a plain venv."""

import json
import re
import shlex
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted(ROOT.glob("services/*/Dockerfile"))
PACKAGES = {
    "api": "postern_api",
    "smtp-edge": "postern_edge",
    "dns-verifier": "postern_dns",
    "directory-sync": "postern_sync",
    "deletion-scheduler": "postern_deletion",
}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, continuation lines joined."""

    stage: int
    name: str
    value: str


def read(file: Path) -> list[Instruction]:
    found, stage = [], -1
    text = re.sub(r"\\\n\s*", "", file.read_text(encoding="utf-8"))
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, value = line.split(maxsplit=1)
        stage += name == "FROM"
        found.append(Instruction(stage, name, value))
    return found


def values(file: Path, name: str, stage: int) -> list[str]:
    return [one.value for one in read(file) if one.name == name and one.stage == stage]


each_image = pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)


def test_each_service_has_an_image():
    assert {file.parent.name for file in DOCKERFILES} == set(PACKAGES)


@each_image
def test_base_is_pinned_by_tag_and_slim(file):
    arguments = values(file, "ARG", -1)
    assert len(arguments) == 1
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11-slim-\w+", arguments[0])
    assert values(file, "FROM", 0) == ["${PYTHON_IMAGE} AS build"]
    assert values(file, "FROM", 1) == ["${PYTHON_IMAGE}"]


@each_image
def test_final_stage_runs_as_nobody_special_and_installs_nothing(file):
    assert values(file, "USER", 1) == ["10001:10001"]
    assert not any(re.search(r"\b(apt|apt-get|pip|gcc|make)\b", run) for run in values(file, "RUN", 1))
    assert values(file, "COPY", 1) == ["--from=build /opt/postern /opt/postern"]
    package = PACKAGES[file.parent.name]
    assert values(file, "ENTRYPOINT", 1) == [f'["/opt/postern/bin/python", "-m", "{package}"]']
    assert values(file, "STOPSIGNAL", 1) == ["SIGTERM"]


@each_image
def test_health_is_asked_by_python_at_the_ops_port(file):
    (health,) = values(file, "HEALTHCHECK", 1)
    assert "/opt/postern/bin/python" in health
    assert "http://127.0.0.1:9100/livez" in health
    command = json.loads(health.partition("CMD ")[2])
    compile(command[2], "healthcheck", "exec")


@each_image
def test_packages_are_installed_by_hash_or_from_the_sources_alone(file):
    installs = [run for run in values(file, "RUN", 0) if " install " in run or " wheel " in run]
    assert len(installs) == 4
    for run in installs:
        assert "--no-deps" in run
        assert "--require-hashes" in run or "--no-index" in run


def copy_sources(file: Path, target: Path) -> None:
    """What COPY brings, by hard rules of the build context: sources, not tests."""
    for copied in values(file, "COPY", 0):
        *sources, destination = copied.split()
        for source in sources:
            for path in sorted([ROOT / source, *(ROOT / source).rglob("*")]):
                inside = path.relative_to(ROOT)
                kept = {"src", "pyproject.toml"} & set(inside.parts) or path.suffix == ".txt"
                if path.is_file() and kept and not {"__pycache__", "build"} & set(inside.parts):
                    wanted = target / (inside if (ROOT / source).is_dir() else Path(destination) / path.name)
                    wanted.parent.mkdir(parents=True, exist_ok=True)
                    wanted.write_bytes(path.read_bytes())


def run_step(step: str, folder: Path) -> None:
    """One RUN line with its /opt/postern moved below `folder`, by a Python that the test may change."""
    words = [word.replace("/opt/postern", str(folder / "opt")) for word in shlex.split(step)]
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_image
def test_the_sources_build_into_wheels_that_hold_the_service(file, tmp_path):
    copy_sources(file, tmp_path)
    (step,) = (run for run in values(file, "RUN", 0) if " wheel " in run)
    run_step(step, tmp_path)
    names = {name for wheel in (tmp_path / "wheels").glob("*.whl") for name in zipfile.ZipFile(wheel).namelist()}
    package = PACKAGES[file.parent.name]
    assert {"postern_common/py.typed", f"{package}/__main__.py", f"{package}/py.typed"} <= names
    assert not [name for name in names if "tests" in name.split("/")]


@pytest.mark.soak
@pytest.mark.timeout(1200)
@each_image
def test_all_steps_give_a_service_that_starts(file, tmp_path):
    copy_sources(file, tmp_path)
    for step in values(file, "RUN", 0):
        if "requirements/build.txt" not in step:  # setuptools is here; the shared Python is not ours to change
            run_step(step, tmp_path)
    package = PACKAGES[file.parent.name]
    done = subprocess.run(
        [tmp_path / "opt/bin/python", "-m", package], env={}, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 78, done.stderr  # it starts, and names the settings that are missing
    assert "MONGODB_URI" in done.stderr
