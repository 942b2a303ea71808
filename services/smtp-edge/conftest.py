"""The edge's tests run on the loop that the service runs on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001 - named by the hook
    item: pytest.Item,  # noqa: ARG001 - named by the hook
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The one loop."""
    return {"uvloop": uvloop.new_event_loop}
