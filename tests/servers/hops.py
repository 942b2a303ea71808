"""Scripted next hops for tests that run no loop of their own: they live in a thread with one."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.servers.smtp_fake import FakeHop

T = TypeVar("T")


class Hops:
    """`add` starts a next hop; `close` ends them all. Their attributes may be changed from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._hops: list[FakeHop] = []

    def add(self, **script: Any) -> FakeHop:
        """A next hop that does what the script says, on a port of its own."""
        hop = FakeHop(**script)
        self._do(hop.start())
        self._hops.append(hop)
        return hop

    def close(self) -> None:
        """Close all ports and connections."""
        for hop in self._hops:
            self._do(hop.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
