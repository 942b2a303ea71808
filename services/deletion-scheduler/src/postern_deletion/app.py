"""Puts the scheduler together: the one place that knows the concrete parts."""

import asyncio

from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.mongo import Mongo
from postern_common.outbox import OutboxRelay
from postern_common.runtime import Runtime
from postern_common.telemetry import configure_logging
from postern_deletion.handlers import Handlers
from postern_deletion.removal.loop import Removal
from postern_deletion.settings import DeletionSettings
from postern_deletion.store import UserStore
from postern_deletion.sweep import SERVICE, Sweep
from postern_deletion.warnings import Warnings


def assemble(settings: DeletionSettings) -> Runtime:
    """Connect the parts and hand them to a runtime. Nothing is reached yet."""
    mongo = Mongo.connect(settings, Clock(settings.test_clock), application=SERVICE)
    store = UserStore(mongo)
    sweep = Sweep(store, poll_seconds=settings.deletion_poll_seconds, batch=settings.deletion_batch)
    bus = Bus(settings.amqp_url.get_secret_value(), SERVICE, mongo, Handlers(sweep.wake).table())
    relay = OutboxRelay(mongo, bus)
    warnings = Warnings(store, poll_seconds=settings.deletion_warn_seconds)
    removal = Removal(mongo)
    sweep.on_commit = warnings.on_commit = relay.kick

    async def work() -> None:
        await mongo.prepare()
        await sweep.run()

    async def warn() -> None:
        await mongo.prepare()
        await warnings.run()

    async def clear() -> None:
        await mongo.prepare()
        await removal.run()

    async def close() -> None:
        mongo.close()

    runtime = Runtime(SERVICE, settings)
    runtime.add_task("bus", bus.run)
    runtime.add_task("outbox", relay.run)
    runtime.add_task("sweep", work)
    runtime.add_task("warnings", warn)
    runtime.add_task("removal", clear)
    runtime.add_check("database", mongo.ping)
    runtime.add_check("broker", bus.check)
    runtime.add_check("clock", sweep.check_clock)
    runtime.on_drain("events", bus.drain)
    runtime.on_drain("sweep", sweep.drain)
    runtime.on_close(close)
    return runtime


async def serve(settings: DeletionSettings) -> int:
    """Run until stopped; the exit status."""
    return await assemble(settings).run()


def run(settings: DeletionSettings) -> int:
    """Run the service; the process's exit status."""
    configure_logging(SERVICE, settings.log_level)
    return asyncio.run(serve(settings))
