"""An outsider on the bus: publishes events as a service would, and tells how deep a service's queues are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from postern_common import topology
from postern_common.bus import Bus
from postern_common.envelope import Envelope
from postern_common.events import Event
from postern_common.mongo import Mongo
from tests.servers.farm import Farm
from tests.servers.waiting import eventually_async


class Publisher:
    """Publishes and waits until a service has taken everything."""

    def __init__(self, farm: Farm, vhost: str, bus: Bus, mongo: Mongo) -> None:
        self._farm = farm
        self._vhost = urlsplit(vhost).path.removeprefix("/")
        self._bus = bus
        self._mongo = mongo

    async def send(self, event: Event, *, times: int = 1) -> Envelope:
        """Publish the very same event so many times; the broker has confirmed each."""
        envelope = Envelope.of(event, service="api", now=self._mongo.clock.now())
        for _ in range(times):
            assert await self._bus.publish([envelope]) == {envelope.id}
        return envelope

    async def processed(self, service: str, *envelopes: Envelope) -> None:
        """Wait until the service has marked these events as processed, and check that it parked nothing."""

        keys = [f"{service}:{envelope.id}" for envelope in envelopes]

        async def all_marked():
            return await self._mongo.db["processed_events"].count_documents({"_id": {"$in": keys}}) == len(keys)

        await eventually_async(all_marked, timeout=20)
        assert await asyncio.to_thread(self._depth, topology.dead_queue(service)) == 0

    async def settled(self, service: str) -> None:
        """Wait until nothing of the service's queue is left, waiting or under way."""

        async def is_empty():
            return await asyncio.to_thread(self._depth, topology.main_queue(service)) == 0

        await eventually_async(is_empty, timeout=20, pause=0.3)

    def _depth(self, queue: str) -> int:
        found: dict[str, Any] = self._farm.management("GET", f"/api/queues/{self._vhost}/{queue}")
        return int(found.get("messages", 0))


@asynccontextmanager
async def publishing(farm: Farm, vhost: str, mongo: Mongo) -> AsyncIterator[Publisher]:
    """A connected publisher."""
    bus = Bus(vhost, "test", mongo)
    task = asyncio.create_task(bus.run())
    try:
        await eventually_async(lambda: bus.ready)
        yield Publisher(farm, vhost, bus, mongo)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
