"""What the outside finds of a domain: records in the tests' DNS server, and an authority for its certificates."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trustme


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Signs the certificates of a test file's servers."""
    return trustme.CA()


@pytest.fixture
def publish(named: Any) -> Iterator[Callable[..., Awaitable[None]]]:
    """Publishes records (name, type, values), until the test ends."""
    touched: set[tuple[str, str]] = set()

    async def put(name: str, kind: str, *values: str) -> None:
        touched.add((name, kind))
        await asyncio.to_thread(named.update, name, kind, values)

    yield put
    for name, kind in touched:
        named.update(name, kind, [])
