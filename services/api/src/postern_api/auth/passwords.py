"""Passwords as argon2id hashes (SPEC T3), computed in a small pool of threads.

A hash costs 64 MiB and a core for a moment: more than a few at a time would starve everything else, so that the rest
waits in a short line, and past that is asked to come back.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from postern_common.errors import Temporary

THREADS: Final = 2
LINE: Final = 32
T = TypeVar("T")


class Passwords:
    """Hashes and verifies passwords without blocking the loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="argon2")
        self._waiting = 0
        # Verified when the login is unknown, so that the answer takes as long as for a known one.
        self._nobody = self._hasher.hash("nobody's password")

    async def hash(self, password: str) -> str:
        """The hash to store."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` belongs to the stored hash; with no hash, no, after the same time."""
        matches = await self._run(self._matches, stored or self._nobody, password)
        return matches and stored is not None

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., T], *arguments: str) -> T:
        if self._waiting >= LINE:
            raise Temporary("too many sign-ins at once")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        finally:
            self._waiting -= 1
