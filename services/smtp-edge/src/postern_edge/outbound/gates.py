"""How many deliveries go out at a time: in all, to one server, for one customer, and to servers in doubt (SPEC R3).

A server is in doubt until it has taken something lately and quickly. Servers in doubt share a half of all places, those
of one customer an eighth, and no customer gets more than three quarters: whatever some servers do, mail for the others
goes out. Whose customer has the fewest places is next. A server that was never heard of gets a few connections, and all
that one server may have once it answers.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Gate:
    """Lets in so many at a time, and of one customer at most so many; the number may change meanwhile.

    Of those who wait, the first one of the customer with the fewest inside is next.
    """

    def __init__(self, capacity: Callable[[], int], of_one: int | None = None) -> None:
        self._capacity = capacity
        self._of_one = of_one
        self._inside: Counter[str] = Counter()
        self._all_inside = 0
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        self.waiting = 0

    @asynccontextmanager
    async def passed(self, customer_id: str = "") -> AsyncIterator[None]:
        """Within this, one of the places is taken."""
        await self._enter(customer_id)
        try:
            yield
        finally:
            self._leave(customer_id)

    async def _enter(self, customer_id: str) -> None:
        if not self.waiting and self._all_inside < self._capacity() and self._has_share(customer_id):
            self._count_in(customer_id)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(customer_id, deque()).append(turn)
        self.waiting += 1
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(customer_id)
            elif turn in self._lines.get(customer_id, ()):
                self._forget(customer_id, turn)
            raise

    def _leave(self, customer_id: str) -> None:
        self._all_inside -= 1
        self._inside[customer_id] -= 1
        if not self._inside[customer_id]:
            del self._inside[customer_id]
        self._let_in()

    def _let_in(self) -> None:
        while self.waiting and self._all_inside < self._capacity():
            customer_id = min(self._lines, key=self._inside.__getitem__)
            if not self._has_share(customer_id):
                return
            turn = self._lines[customer_id][0]
            self._forget(customer_id, turn)
            if turn.done():
                continue  # it has been given up, and whoever did is about to find out
            self._count_in(customer_id)
            turn.set_result(None)

    def _has_share(self, customer_id: str) -> bool:
        return self._of_one is None or self._inside[customer_id] < self._of_one

    def _count_in(self, customer_id: str) -> None:
        self._all_inside += 1
        self._inside[customer_id] += 1

    def _forget(self, customer_id: str, turn: asyncio.Future[None]) -> None:
        line = self._lines[customer_id]
        line.remove(turn)
        self.waiting -= 1
        if not line:
            del self._lines[customer_id]


class Places:
    """All places of a process, shared fairly."""

    def __init__(self, total: int) -> None:
        self._all = Gate(lambda: total, max(1, total * 3 // 4))
        self._doubtful = Gate(lambda: max(1, total // 2), max(1, total // 8))

    @property
    def is_crowded(self) -> bool:
        """Whether deliveries to servers in doubt wait for a place."""
        return self._doubtful.waiting > 0

    @asynccontextmanager
    async def taken(self, customer_id: str, *, in_doubt: bool) -> AsyncIterator[None]:
        """Within this, a place is taken for the customer. The narrower gate comes first, so that nobody who waits at it
        holds a place that another could use.
        """
        if not in_doubt:
            async with self._all.passed(customer_id):
                yield
            return
        async with self._doubtful.passed(customer_id), self._all.passed(customer_id):
            yield
