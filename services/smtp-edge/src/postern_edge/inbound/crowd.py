"""Who makes way when all connections are taken: the client that has got nowhere for longest (SPEC F5).

So a flood of connections that are held open, from however many addresses, pushes out only itself: a client that goes
on with its mail is never the one, and a new client finds room. The sessions are looked through for some at a time, so
that a flood costs little.
"""

from collections.abc import Collection
from heapq import nsmallest
from typing import Final, Protocol

BATCH: Final = 50
LOOK_SECONDS: Final = 0.05


class Waiting(Protocol):
    """A session, as far as it matters here."""

    was_refused: bool

    @property
    def idle_since(self) -> float:
        """The loop's time since when the client has got nowhere."""


class Crowd:
    """Picks sessions of one port; one that got somewhere within `patience_seconds` is left alone."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._stale: list[Waiting] = []
        self._looked_at = 0.0

    def stalest(self, sessions: Collection[Waiting], now: float) -> Waiting | None:
        """The session that is to make way, or None while none is stale."""
        limit = now - self._patience_seconds
        # After so long, one that went on since may be stale anew, and is not the stalest.
        if now - self._looked_at >= (self._patience_seconds if self._stale else LOOK_SECONDS):
            self._looked_at = now
            idle = (session for session in sessions if _is_stale(session, limit))
            self._stale = nsmallest(BATCH, idle, key=lambda session: session.idle_since)[::-1]
        while self._stale:
            session = self._stale.pop()
            if session in sessions and _is_stale(session, limit):  # it may have gone, or on, since it was looked at
                return session
        return None


def _is_stale(session: Waiting, limit: float) -> bool:
    return not session.was_refused and session.idle_since <= limit
