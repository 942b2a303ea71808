"""One part of the stack: it starts, answers a real question before it counts as ready, stops, and starts again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from postern_local.faults import StackFault
from postern_local.process import Child, Processes, Program


class Part(Protocol):
    """What a kind of server must tell: how it is started, and what it still lacks."""

    @property
    def name(self) -> str:
        """The name in logs, records and messages."""
        ...

    def program(self) -> Program:
        """Write the configuration that is missing, and say what to start."""
        ...

    def missing(self) -> str | None:
        """Ask the running server itself; None when it is ready, else what is still missing."""
        ...


class Unit:
    """A part together with its process."""

    def __init__(self, part: Part, processes: Processes) -> None:
        self.part = part
        self.child: Child | None = None
        self._processes = processes

    @property
    def name(self) -> str:
        """The part's name."""
        return self.part.name

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.child is not None and self.child.alive

    def launch(self) -> None:
        """Start the process without waiting for it to be ready; nothing happens if it runs."""
        if not self.alive:
            self.child = self._processes.start(self.part.program())

    def await_ready(self, timeout: float = 60.0) -> None:
        """Wait until the server answers; raises StackFault with the end of its log."""
        deadline = time.monotonic() + timeout
        pause = 0.02
        while (reason := self.part.missing()) is not None:
            child = self.child
            if child is not None and not child.alive:
                raise StackFault(self._fault(f"ended with status {child.process.returncode} while starting"))
            if time.monotonic() > deadline:
                raise StackFault(self._fault(f"is not ready after {timeout:.0f} s: {reason}"))
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def start(self, timeout: float = 60.0) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        self.await_ready(timeout)

    def ask_to_stop(self) -> None:
        """Send the polite signal and go on; `stop` waits."""
        if self.child is not None:
            self.child.terminate()

    def stop(self) -> None:
        """Stop it politely, within its grace."""
        if self.child is not None:
            self.child.terminate()
            self.child.join()
            self._processes.forget(self.name)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        if self.child is not None:
            self.child.kill()

    def restart(self, timeout: float = 60.0) -> None:
        """Stop it, start it on the same ports and data, wait until it is ready."""
        self.stop()
        self.start(timeout)

    @contextmanager
    def running(self, timeout: float = 60.0) -> Iterator["Unit"]:
        """The unit, started; stopped at the end."""
        try:
            self.start(timeout)
            yield self
        finally:
            self.stop()

    def _fault(self, what: str) -> str:
        if self.child is None:
            return f"{self.name} {what}"
        return f"{self.name} {what}; its log, {self.child.log}, ends with:\n{self.child.log_tail()}"
