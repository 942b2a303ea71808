"""Puts directory synchronisation together: the one place that knows the concrete parts."""

import asyncio
from datetime import timedelta

from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.mongo import Mongo
from postern_common.outbox import OutboxRelay
from postern_common.runtime import Runtime
from postern_common.secrets import SecretBox
from postern_common.telemetry import configure_logging
from postern_sync.engine import Engine, MakeSource
from postern_sync.handlers import Handlers
from postern_sync.runs.documents import SERVICE
from postern_sync.runs.runner import Runner
from postern_sync.runs.store import RunStore
from postern_sync.schedule.loop import Schedule
from postern_sync.schedule.store import DirectoryStore
from postern_sync.settings import SyncSettings
from postern_sync.sources import Sources


def assemble(settings: SyncSettings, make_source: MakeSource | None = None) -> Runtime:
    """Connect the parts and hand them to a runtime. Nothing is reached yet."""
    mongo = Mongo.connect(settings, Clock(settings.test_clock), application=SERVICE)
    if make_source is None:
        make_source = Sources(settings, SecretBox.from_text(settings.secret_key_text()), mongo)
    runs, directories = RunStore(mongo), DirectoryStore(mongo)
    runner = Runner(
        runs,
        Engine(mongo, settings, make_source),
        concurrency=settings.sync_concurrency,
        poll_seconds=settings.sync_poll_seconds,
        lease=timedelta(seconds=settings.sync_lease_seconds),
        attempts=settings.sync_attempts,
    )
    schedule = Schedule(directories, runs, poll_seconds=settings.sync_poll_seconds)
    handlers = Handlers(runs, directories, runner.wake)
    bus = Bus(settings.amqp_url.get_secret_value(), SERVICE, mongo, handlers.table())
    relay = OutboxRelay(mongo, bus)
    handlers.on_answer = runner.on_commit = schedule.on_commit = relay.kick

    async def prepared(work: asyncio.Event) -> None:
        await mongo.prepare()
        work.set()

    ready = asyncio.Event()

    async def consume() -> None:
        await prepared(ready)
        await bus.run()

    async def work() -> None:
        await ready.wait()
        await runner.run()

    async def plan() -> None:
        await ready.wait()
        await schedule.run()

    async def close() -> None:
        mongo.close()

    runtime = Runtime(SERVICE, settings)
    runtime.add_task("bus", consume)
    runtime.add_task("outbox", relay.run)
    runtime.add_task("runner", work)
    runtime.add_task("schedule", plan)
    runtime.add_check("database", mongo.ping)
    runtime.add_check("broker", bus.check)
    runtime.add_check("clock", schedule.check_clock)
    runtime.on_drain("schedule", schedule.drain)
    runtime.on_drain("runs", runner.drain)
    runtime.on_drain("events", bus.drain)
    runtime.on_close(close)
    return runtime


async def serve(settings: SyncSettings) -> int:
    """Run until stopped; the exit status."""
    return await assemble(settings).run()


def run(settings: SyncSettings) -> int:
    """Run the service; the process's exit status."""
    configure_logging(SERVICE, settings.log_level)
    return asyncio.run(serve(settings))
