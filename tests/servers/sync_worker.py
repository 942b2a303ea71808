"""A worker of directory synchronisation as a process of its own, which stops for ever where it is told to.

`python -m tests.servers.sync_worker <mongodb uri> <database> <people> <domain> <where>`: it reads so many people. At
`where` (`reading`, `planning`, `transaction` while planning, `applying`) it writes a line and waits to be killed.
"""

import asyncio
import sys
import time
from datetime import timedelta

from postern_sync.applying.application import Application
from postern_sync.plans.store import PlanStore
from postern_sync.plans.storing import BATCH, Planner
from tests.servers.stored import connect
from tests.servers.sync_source import ScriptedSource, Worker, people, sync_settings

LEASE = timedelta(seconds=2)


async def stop_here() -> None:
    print("here", flush=True)
    await asyncio.Event().wait()


async def work(uri: str, database: str, count: int, domain: str, where: str) -> None:
    mongo = connect(uri, database)
    source = ScriptedSource(people(count, domain))
    if where == "reading":
        source.pause = stop_here
    if where == "planning":
        describe = Planner._document

        def describe_and_stop(self, item, verdict, now):
            if item.seq > BATCH:
                print("here", flush=True)
                time.sleep(600)
            return describe(self, item, verdict, now)

        Planner._document = describe_and_stop  # type: ignore[method-assign]
    if where == "transaction":
        put = PlanStore.put

        async def put_and_stop(self, items, session):
            await put(self, items, session)
            await stop_here()

        PlanStore.put = put_and_stop  # type: ignore[method-assign]
    if where == "applying":
        apply = Application._apply

        async def apply_and_stop(self, groups):
            await apply(self, groups)
            if self._done >= count // 2:
                await stop_here()

        Application._apply = apply_and_stop  # type: ignore[method-assign]
    settings = sync_settings(uri, database, sync_batch=100)
    await Worker(mongo, settings, source, lease=LEASE).work()
    mongo.close()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]))
