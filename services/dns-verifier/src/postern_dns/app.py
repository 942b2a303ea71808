"""Puts the verifier together: the one place that knows the concrete parts."""

import asyncio
from datetime import timedelta

from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.mongo import Mongo
from postern_common.netguard import NetGuard
from postern_common.outbox import OutboxRelay
from postern_common.runtime import Runtime
from postern_common.telemetry import configure_logging
from postern_dns.adapters.resolver import Limits, Resolver, configured_resolvers
from postern_dns.handlers import SERVICE, Handlers
from postern_dns.inspection import Inspector
from postern_dns.schedule import Schedule
from postern_dns.settings import DnsSettings
from postern_dns.store import DomainStore


def build_inspector(settings: DnsSettings) -> Inspector:
    """What asks the DNS, as the settings say."""
    resolver = Resolver(
        configured_resolvers(settings.dns_servers),
        NetGuard(settings.allow_networks),
        port=settings.dns_authoritative_port,
        limits=Limits(settings.dns_server_timeout_seconds, settings.dns_look_timeout_seconds),
    )
    return Inspector(
        resolver,
        own_mx_hosts=settings.dns_own_mx_hosts,
        spf_include=settings.dns_spf_include,
        spf_seconds=settings.dns_look_timeout_seconds,
    )


def assemble(settings: DnsSettings) -> Runtime:
    """Connect the parts and hand them to a runtime. Nothing is reached yet."""
    mongo = Mongo.connect(settings, Clock(settings.test_clock), application=SERVICE)
    store = DomainStore(mongo)
    schedule = Schedule(
        store,
        build_inspector(settings),
        concurrency=settings.dns_concurrency,
        poll_seconds=settings.dns_poll_seconds,
        lease=timedelta(seconds=settings.dns_lease_seconds),
    )
    bus = Bus(settings.amqp_url.get_secret_value(), SERVICE, mongo, Handlers(store, schedule.wake).table())
    relay = OutboxRelay(mongo, bus)
    schedule.on_commit = relay.kick

    async def work() -> None:
        await mongo.prepare()
        await schedule.run()

    runtime = Runtime(SERVICE, settings)
    runtime.add_task("bus", bus.run)
    runtime.add_task("outbox", relay.run)
    runtime.add_task("schedule", work)
    runtime.add_check("database", mongo.ping)
    runtime.add_check("broker", bus.check)
    runtime.add_check("clock", schedule.check_clock)
    runtime.on_drain("events", bus.drain)
    runtime.on_drain("looks", schedule.drain)

    async def close() -> None:
        mongo.close()

    runtime.on_close(close)
    return runtime


async def serve(settings: DnsSettings) -> int:
    """Run until stopped; the exit status."""
    return await assemble(settings).run()


def run(settings: DnsSettings) -> int:
    """Run the service; the process's exit status."""
    configure_logging(SERVICE, settings.log_level)
    return asyncio.run(serve(settings))
