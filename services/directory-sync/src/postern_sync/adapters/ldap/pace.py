"""How much patience a server is owed: what it sends earns it time, waiting for it spends that (SPEC S16).

An octet now and then keeps a connection alive, and would keep a reader busy for ever.
"""

import time
from typing import Final

PATIENCE_SECONDS: Final = 600.0  # a domain controller may look for minutes before a page comes
OCTETS_PER_SECOND: Final = 256  # far below any line that a directory is read over


class Pace:
    """The patience that is left; it is never more than in the beginning."""

    def __init__(self) -> None:
        self.left = PATIENCE_SECONDS
        self._began = 0.0

    def waits(self) -> None:
        """Somebody begins to wait."""
        self._began = time.monotonic()

    def took(self, octets: int) -> None:
        """The waiting has ended with so many octets."""
        waited = time.monotonic() - self._began
        self.left = min(PATIENCE_SECONDS, self.left - waited + octets / OCTETS_PER_SECOND)
