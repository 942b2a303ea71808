"""The load: which cases there are, and Postfix's `smtp-source` that makes it."""

import subprocess
import time
from dataclasses import dataclass
from typing import Final, Literal

TIMEOUT_SECONDS: Final = 180


@dataclass(frozen=True, slots=True)
class Case:
    """`sessions` clients send `messages` messages of `octets` in all; `reuse`: many messages a connection."""

    mode: Literal["taking", "delivering"]
    sessions: int
    octets: int
    reuse: bool
    messages: int

    @property
    def name(self) -> str:
        """The row's name."""
        kind = "reused" if self.reuse else "one a connection"
        return f"{self.mode}: {self.sessions} x {self.octets // 1024} KiB, {kind}"


Mode = Literal["taking", "delivering"]
# Messages of 4 KiB and of 64 KiB in one measurement.
_COUNTS: Final[tuple[tuple[Mode, tuple[int, int]], ...]] = (("taking", (4000, 1500)), ("delivering", (2000, 1000)))

CASES: Final = tuple(
    Case(mode, sessions, octets, reuse, messages)
    for mode, counts in _COUNTS
    for octets, messages in ((4096, counts[0]), (65536, counts[1]))
    for sessions, reuse in ((20, False), (20, True), (100, False), (100, True))
)


def send(case: Case, count: int, port: int, recipient: str) -> float:
    """Send `count` messages to `port` and return the seconds it took; raises if one was refused."""
    command = ["smtp-source", "-s", str(case.sessions), "-m", str(count), "-l", str(case.octets)]
    command += ["-d"] if case.reuse else []
    command += ["-f", "bench@sender.test", "-t", recipient, f"127.0.0.1:{port}"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"smtp-source: {done.stderr.strip()[-300:]}")
    return took
