"""Faults that are no death: a process that stands still, and what a service says of itself meanwhile."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import httpx2
from pymongo import MongoClient

from postern_local.unit import Unit

LOOK_SECONDS: Final = 0.1
_ELSE: Final = {"state": {"$ne": "delivered"}}


@contextmanager
def paused(unit: Unit) -> Iterator[None]:
    """Within this the process stands still (SIGSTOP): its connections stay, and nothing answers."""
    assert unit.child is not None
    os.kill(unit.child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(unit.child.pid, signal.SIGCONT)


class Readiness:
    """Asks a service's /readyz over and over, as a balancer does, and remembers when the answer changed.

    No answer within 5 seconds counts as not ready.
    """

    def __init__(self, ops_url: str) -> None:
        self._url = f"{ops_url}/readyz"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.changes: list[tuple[float, bool]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(10)

    def await_turn(self, *, ready: bool, since: float, within: float) -> float:
        """Wait until the answer given after `since` (monotonic) is `ready`; how many seconds that took."""
        deadline = since + within
        while True:
            state = self.changes[-1] if self.changes else (0.0, None)
            if state[1] is ready:
                return max(0.0, state[0] - since)
            if time.monotonic() > deadline:
                raise AssertionError(f"{self._url} did not turn {'ready' if ready else 'unready'} in {within} s")
            time.sleep(LOOK_SECONDS / 2)

    def _watch(self) -> None:
        with httpx2.Client(timeout=5, trust_env=False) as client:
            while not self._ends.wait(LOOK_SECONDS):
                try:
                    ready = client.get(self._url).status_code == 200
                except httpx2.HTTPError:
                    ready = False
                if not self.changes or self.changes[-1][1] is not ready:
                    self.changes.append((time.monotonic(), ready))


def unfinished(uri: str, database: str) -> int:
    """How many stored messages are not done: delivered, returned or dropped."""
    return _count(uri, database, {"state": {"$ne": "done"}})


def delivered(uri: str, database: str) -> int:
    """How many stored messages are delivered to all of their recipients."""
    return _count(uri, database, {"recipients.state": "delivered", "recipients": {"$not": {"$elemMatch": _ELSE}}})


def _count(uri: str, database: str, query: dict[str, Any]) -> int:
    client: MongoClient[dict[str, Any]] = MongoClient(uri, serverSelectionTimeoutMS=10000)
    try:
        return client[database]["messages"].count_documents(query)
    finally:
        client.close()
