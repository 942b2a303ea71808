"""Says how far a part is and how long it will take: a full run takes an hour or two."""

import time

from rich.console import Console


class Progress:
    """`step` prints one line for each of `steps` measurements, with the time that is left by the pace so far."""

    def __init__(self, console: Console, part: str, steps: int) -> None:
        self._console = console
        self._part = part
        self._steps = steps
        self._done = 0
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that is no measurement."""
        self._console.print(f"[{self._part}] {text}", markup=False, highlight=False)

    def step(self, text: str) -> None:
        """Print what was just measured."""
        self._done += 1
        left = (time.monotonic() - self._began) / self._done * (self._steps - self._done)
        self.say(f"{self._done} of {self._steps}, about {_minutes(left)} left: {text}")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
