"""Who used the processors, and how much memory: read from the kernel's counts, no part of the load itself."""

import os
import resource
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from postern_local.unit import Unit

MIB = 1024 * 1024


def cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0))


def tree_seconds(pid: int) -> float:
    """Processor seconds used so far by a process and all that it started, ended ones too."""
    return sum(_own_and_ended(process) for process in _tree(pid))


def unit_seconds(*units: Unit) -> float:
    """The same for parts of the stack; what never ran used nothing."""
    return sum(tree_seconds(unit.child.pid) for unit in units if unit.child is not None)


def generator_seconds() -> float:
    """Processor seconds of all children that this process has waited for: a load generator that has just ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_seconds() -> dict[str, float]:
    """Processor seconds of the whole machine since it started: `busy`, and `idle` (waiting for a disk counts there)."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return {"busy": sum(times[:8]) - idle, "idle": idle}  # what follows the eighth is counted within the first two


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def resident_bytes(pid: int) -> int:
    """The memory that a process has resident now."""
    return int(psutil.Process(pid).memory_info().rss)


def tree_share_bytes(pid: int) -> int:
    """What a process and all that it started take together; a page that several share is counted once (PSS)."""
    total = 0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            total += process.memory_full_info().pss
    return total


def _tree(pid: int) -> Iterable[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _own_and_ended(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # it ended meanwhile and counts with its parent
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


class Peaks:
    """While it is entered, asks questions again and again, in a thread, and keeps the largest answer to each."""

    def __init__(self, questions: Mapping[str, Callable[[], float]], seconds: float) -> None:
        self._questions = questions
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.found: dict[str, float] = dict.fromkeys(questions, 0.0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(30)

    def _ask(self) -> None:
        while True:
            for name, question in self._questions.items():
                with suppress(OSError, psutil.NoSuchProcess):
                    self.found[name] = max(self.found[name], question())
            if self._done.wait(self._seconds):
                return
