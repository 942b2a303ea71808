"""Puts directory synchronisation together: the one place that knows the concrete parts."""

import asyncio

from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.mongo import Mongo
from postern_common.outbox import OutboxRelay
from postern_common.runtime import Runtime
from postern_common.telemetry import configure_logging
from postern_sync.handlers import SERVICE, Handlers
from postern_sync.settings import SyncSettings
from postern_sync.store import RunStore


def assemble(settings: SyncSettings) -> Runtime:
    """Connect the parts and hand them to a runtime. Nothing is reached yet."""
    mongo = Mongo.connect(settings, Clock(settings.test_clock), application=SERVICE)
    handlers = Handlers(RunStore(mongo))
    bus = Bus(settings.amqp_url.get_secret_value(), SERVICE, mongo, handlers.table())
    relay = OutboxRelay(mongo, bus)
    handlers.on_answer = relay.kick

    async def consume() -> None:
        await mongo.prepare()
        await bus.run()

    async def close() -> None:
        mongo.close()

    runtime = Runtime(SERVICE, settings)
    runtime.add_task("bus", consume)
    runtime.add_task("outbox", relay.run)
    runtime.add_check("database", mongo.ping)
    runtime.add_check("broker", bus.check)
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
