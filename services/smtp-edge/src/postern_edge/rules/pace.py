"""How quickly a server takes mail, and how many connections it gets (SPEC R3).

A server that was never heard of gets few connections; each delivery that it takes earns it one more. One whose
deliveries take long is slow: what it may hold of all places is limited elsewhere (`outbound/gates.py`).
"""

from typing import Final

FIRST: Final = 2  # connections to a server that has not yet taken anything
SLOW_SECONDS: Final = 5.0
WEIGHT: Final = 0.2  # of the last delivery in the mean


class Pace:
    """What is known of one server: how many deliveries it took, their mean time in seconds, and which are under way."""

    def __init__(self) -> None:
        self.taken = 0
        self.mean = 0.0
        self._under_way: dict[float, int] = {}

    def begin(self, now: float) -> float:
        """A delivery begins; by this value it ends."""
        self._under_way[now] = self._under_way.get(now, 0) + 1
        return now

    def end(self, began: float) -> None:
        """It is over."""
        self._under_way[began] -= 1
        if not self._under_way[began]:
            del self._under_way[began]

    def succeeded(self, seconds: float) -> None:
        """The server took it."""
        self.mean = seconds if not self.taken else self.mean + WEIGHT * (seconds - self.mean)
        self.taken += 1

    @property
    def oldest(self) -> float | None:
        """When the oldest delivery under way began: the first key, as they come in order of time."""
        return next(iter(self._under_way), None)


def allowed(pace: Pace, most: int) -> int:
    """How many connections the server may have at a time."""
    return min(most, FIRST + pace.taken)


def is_slow(pace: Pace, now: float) -> bool:
    """Whether it has not shown that it is quick, or is not at the moment."""
    if not pace.taken or pace.mean > SLOW_SECONDS:
        return True
    return pace.oldest is not None and now - pace.oldest > SLOW_SECONDS
