"""Group commits without SMTP, in a process of its own: `python -m tests.bench.commit_load`, JSON in and out.

The edge's own spool stores messages for so many sessions at once, each of which waits for its message to be durable
before it brings the next, as a client waits for its 250.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import uvloop

from postern_edge.bodies.store import BodyStore
from postern_edge.messages import Lease, Terms
from postern_edge.spool import MongoSpool
from tests.bench.client import content
from tests.servers.edge_inside import message
from tests.servers.stored import connect

LIFETIME: Final = timedelta(days=5)


async def _main(settings: Mapping[str, Any]) -> None:
    mongo = connect(settings["uri"], settings["database"])
    await mongo.prepare()
    spool = MongoSpool(
        mongo,
        BodyStore(mongo),
        terms=lambda: Terms(mongo.clock.now(), Lease(None, None), LIFETIME),
        accepted=lambda _entry: None,
    )
    committing = asyncio.create_task(spool.commit.run())
    body = content(settings["octets"])
    until = settings["begin"] + settings["seconds"]
    stored = 0

    async def session() -> None:
        nonlocal stored
        while time.time() < until:
            await spool.accept(message(body=body))
            stored += 1

    # All processes begin at one moment; the wall clock is what they share.
    await asyncio.sleep(max(0.0, settings["begin"] - time.time()))
    began = time.perf_counter()
    await asyncio.gather(*(session() for _ in range(settings["sessions"])))
    took = time.perf_counter() - began
    committing.cancel()
    with suppress(asyncio.CancelledError):
        await committing
    mongo.close()
    print(json.dumps({"rate": stored / took}))


if __name__ == "__main__":
    uvloop.run(_main(json.load(sys.stdin)))
