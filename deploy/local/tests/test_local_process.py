"""Children that end with their launcher, and leftovers that are told from strangers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from postern_local.faults import StackFault
from postern_local.launcher import Lock
from postern_local.process import MARKER, Processes, Program, carries_marker, start_time

SLEEP = Program("sleeper", ("sleep", "60"), grace_seconds=2)
LAUNCHER = """
import sys, time
from pathlib import Path
from postern_local.process import Processes, Program
print(Processes(Path(sys.argv[1])).start(Program("sleeper", ("sleep", "60"))).pid, flush=True)
time.sleep(60)
"""


def soon(question: Callable[[], object], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not question() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(question())


def test_a_child_is_recorded_and_stops_when_asked(tmp_path: Path):
    processes = Processes(tmp_path)
    child = processes.start(SLEEP)
    assert soon(lambda: processes.recorded() == {"sleeper": child.pid})
    child.terminate()
    assert child.join() == -signal.SIGTERM
    assert processes.recorded() == {"sleeper": None}


def test_a_child_that_will_not_stop_is_ended_after_its_grace(tmp_path: Path):
    stubborn = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    child = Processes(tmp_path).start(Program("stubborn", stubborn, grace_seconds=0.2))
    assert soon(lambda: child.log_tail() == "ready")
    child.terminate()
    assert child.join() == -signal.SIGKILL


def test_children_end_when_the_launcher_is_killed(tmp_path: Path):
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path)], stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    assert start_time(pid) is not None
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    assert soon(lambda: start_time(pid) is None)


def test_a_child_outlives_the_thread_that_asked_for_it(tmp_path: Path):
    processes, children = Processes(tmp_path), []
    thread = threading.Thread(target=lambda: children.append(processes.start(SLEEP)))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert children[0].alive
    children[0].kill()


def test_leftovers_are_ended_and_strangers_are_not(tmp_path: Path):
    processes = Processes(tmp_path / "stack")
    left = processes.start(SLEEP)
    stranger = subprocess.Popen(["sleep", "60"])
    other = Processes(tmp_path / "other").start(SLEEP)
    try:
        (processes.pids / "mongod.pid").write_text(
            f'{{"pid": {stranger.pid}, "started": "{start_time(stranger.pid)}"}}'
        )
        assert soon(lambda: carries_marker(left.pid, processes.directory))
        assert processes.recorded() == {"mongod": None, "sleeper": left.pid}
        reaper = threading.Thread(target=left.process.wait)
        reaper.start()
        assert processes.sweep() == 1
        reaper.join()
        assert stranger.poll() is None
        assert other.alive
        assert processes.recorded() == {}
    finally:
        stranger.kill()
        stranger.wait()
        other.kill()


def test_a_child_sees_nothing_of_the_launchers_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RABBITMQ_NODENAME", "somebody")
    child = Processes(tmp_path).start(Program("env", ("env",), env={"OWN": "1"}))
    child.process.wait(5)
    seen = dict(line.split("=", 1) for line in child.log.read_text().splitlines())
    assert "RABBITMQ_NODENAME" not in seen
    assert seen["OWN"] == "1"
    assert seen[MARKER] == str(tmp_path.resolve())


def test_a_folder_runs_one_stack_at_a_time(tmp_path: Path):
    first, second = Lock(tmp_path), Lock(tmp_path)
    assert first.holder() is None
    first.take()
    assert second.holder() == os.getpid()
    with pytest.raises(StackFault, match="POSTERN_LOCAL_DIR"):
        second.take()
    first.release()
    second.check()
