"""A pytest plugin that lets `make soak` go on where it was stopped (`-p tools.soak_resume`).

The names of tests that passed are kept in `.local/soak-passed`, together with the commit that they passed at; the next
run at the same commit leaves them out. When everything has passed, the file is removed and a later run begins anew.
"""

import subprocess
from pathlib import Path

import pytest

RECORD = Path(".local/soak-passed")


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def passed_before(record: Path, commit: str) -> set[str]:
    """The tests that passed at this commit; none if the record is of another one."""
    if not record.exists():
        return set()
    first, *names = record.read_text(encoding="utf-8").splitlines()
    return set(names) if first == commit else set()


class SoakResume:
    """Leaves out what passed, and writes down what passes."""

    def __init__(self, record: Path, commit: str) -> None:
        self._record = record
        self._commit = commit
        self._passed = passed_before(record, commit)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect what passed in an earlier run."""
        done = [item for item in items if item.nodeid in self._passed]
        if done:
            config.hook.pytest_deselected(items=done)
            items[:] = [item for item in items if item.nodeid not in self._passed]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down a test that passed, at once: the run may be stopped at any moment."""
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
            self._record.parent.mkdir(exist_ok=True)
            self._record.write_text("\n".join([self._commit, *sorted(self._passed)]) + "\n", encoding="utf-8")

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """All passed: the next run begins anew."""
        if exitstatus == pytest.ExitCode.OK:
            self._record.unlink(missing_ok=True)


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin for this run."""
    config.pluginmanager.register(SoakResume(RECORD, _commit()))
