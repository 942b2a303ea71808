"""A bounded store that many share: where it is full, whoever holds most gives way to whoever holds less."""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Shares(Generic[T]):
    """Things of several owners, each thing under a key of its owner's; all in constant time."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._held: dict[str, dict[str, T]] = {}
        self._owners: dict[int, dict[str, None]] = {}  # by how many things they hold
        self._largest = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, owner: str, key: str, thing: T) -> bool:
        """Take a thing unless one is there under the key; False where there is no place for it."""
        held = self._held.get(owner, {})
        if key in held:
            return True
        if self._count >= self._places and not self._make_room(len(held)):
            return False
        held = self._held.setdefault(owner, {})
        held[key] = thing
        self._moved(owner, len(held) - 1, len(held))
        return True

    def drop(self, owner: str, key: str) -> None:
        """Let a thing go, if it is there."""
        held = self._held.get(owner)
        if held is not None and held.pop(key, None) is not None:
            self._shrunk(owner, held)

    def round_robin(self) -> Iterator[tuple[str, str, T]]:
        """All things as they are now, one of each owner, then the next of each."""
        lists = {owner: list(held.items()) for owner, held in self._held.items()}
        for number in range(self._largest):
            for owner, things in lists.items():
                if number < len(things):
                    yield owner, *things[number]

    def _make_room(self, wanted_by: int) -> bool:
        """Take the newest thing from one who holds most, for one who holds less than that one will."""
        if wanted_by + 1 >= self._largest:
            return False
        owner = next(iter(self._owners[self._largest]))
        held = self._held[owner]
        held.popitem()
        self._shrunk(owner, held)
        return True

    def _shrunk(self, owner: str, held: dict[str, T]) -> None:
        self._moved(owner, len(held) + 1, len(held))
        if not held:
            del self._held[owner]

    def _moved(self, owner: str, before: int, after: int) -> None:
        self._count += after - before
        if before:
            del self._owners[before][owner]
            if not self._owners[before]:
                del self._owners[before]
        if after:
            self._owners.setdefault(after, {})[owner] = None
        if after > self._largest or self._largest not in self._owners:
            self._largest = after
