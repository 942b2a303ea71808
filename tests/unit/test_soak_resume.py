"""`make soak` goes on where it was stopped."""

from pathlib import Path

from tools.soak_resume import SoakResume, passed_before


class Report:
    when = "call"
    passed = True

    def __init__(self, nodeid):
        self.nodeid = nodeid


class Item:
    def __init__(self, nodeid):
        self.nodeid = nodeid


class Config:
    def __init__(self):
        self.hook = self
        self.deselected = []

    def pytest_deselected(self, items):
        self.deselected += items


def test_what_passed_is_left_out_of_the_next_run_at_the_same_commit(tmp_path: Path):
    record = tmp_path / "kept" / "soak-passed"
    SoakResume(record, "c1").pytest_runtest_logreport(Report("tests/a.py::one"))
    config, items = Config(), [Item("tests/a.py::one"), Item("tests/a.py::two")]
    SoakResume(record, "c1").pytest_collection_modifyitems(config, items)
    assert [item.nodeid for item in items] == ["tests/a.py::two"]
    assert [item.nodeid for item in config.deselected] == ["tests/a.py::one"]
    assert passed_before(record, "c2") == set()


def test_a_run_in_which_all_passed_begins_the_next_one_anew(tmp_path: Path):
    record = tmp_path / "soak-passed"
    plugin = SoakResume(record, "c1")
    plugin.pytest_runtest_logreport(Report("tests/a.py::one"))
    plugin.pytest_sessionfinish(1)
    assert record.exists()
    plugin.pytest_sessionfinish(0)
    assert not record.exists()
