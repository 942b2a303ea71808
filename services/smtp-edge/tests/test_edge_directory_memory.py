"""The directory in memory is left alone by the garbage collector, and nothing else is for long."""

import gc
import weakref
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from postern_edge.directory_cache import DirectoryCache
from postern_edge.directory_index import Directory


class Circle:
    """Garbage that only the collector finds."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def cache():
    async def nothing(*_, **__):
        return
        yield

    mongo = SimpleNamespace(collection=lambda *_: SimpleNamespace(stream=nothing))
    gc.disable()  # so that only the cache has it collect
    yield DirectoryCache(cast(Any, mongo), Directory(lambda: datetime.now(UTC), 60.0))
    gc.unfreeze()
    gc.enable()


async def test_reading_the_directory_anew_keeps_no_garbage_for_ever(cache):
    before, during = Circle(), Circle()
    seen = [weakref.ref(before), weakref.ref(during)]
    del before
    await cache._read_all()
    assert gc.get_freeze_count() > 1000
    assert [one() is None for one in seen] == [True, False]
    del during
    await cache._read_all()
    assert [one() is None for one in seen] == [True, True]
