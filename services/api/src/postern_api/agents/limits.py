"""How often one agent may call: requests in a minute, counted in this process alone."""

import time
from collections import Counter
from typing import Final

WINDOW_SECONDS: Final = 60.0


class Rates:
    """Counts the requests of each agent in the minute under way."""

    def __init__(self) -> None:
        self._window = 0
        self._counts: Counter[str] = Counter()

    def wait_of(self, agent_id: str, limit: int) -> float | None:
        """Count a request; how long to wait where there have been too many, None where it may go on."""
        now = time.monotonic()
        window = int(now // WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            self._counts.clear()
        self._counts[agent_id] += 1
        return None if self._counts[agent_id] <= limit else (window + 1) * WINDOW_SECONDS - now
