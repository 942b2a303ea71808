"""Puts the verifier together: the one place that knows the concrete parts."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.mongo import Mongo
from postern_common.mta_sts import LARGEST_POLICY
from postern_common.netguard import NetGuard
from postern_common.outbox import OutboxRelay
from postern_common.runtime import Runtime
from postern_common.telemetry import configure_logging
from postern_dns.adapters.https import Https, Request
from postern_dns.adapters.resolver import Limits, Resolver, configured_resolvers
from postern_dns.handlers import SERVICE, Handlers
from postern_dns.inspection import Inspector
from postern_dns.reports.sending import Planner, Sender
from postern_dns.reports.store import ReportStore
from postern_dns.rules.mta_sts import Fetched
from postern_dns.rules.tls_report import Reporter
from postern_dns.schedule import Schedule
from postern_dns.settings import DnsSettings
from postern_dns.store import DomainStore

REPORT_SENDERS: Final = 4
REPORT_SECONDS: Final = 30.0


def build_resolver(settings: DnsSettings) -> Resolver:
    """What asks the DNS, as the settings say."""
    return Resolver(
        configured_resolvers(settings.dns_servers),
        NetGuard(settings.allow_networks),
        port=settings.dns_authoritative_port,
        limits=Limits(settings.dns_server_timeout_seconds, settings.dns_look_timeout_seconds),
    )


def build_inspector(settings: DnsSettings) -> Inspector:
    """What looks at domains, as the settings say."""
    https = Https(
        NetGuard(settings.allow_networks), port=settings.dns_https_port, seconds=settings.dns_look_timeout_seconds
    )

    async def fetch(host: str, path: str, addresses: Sequence[str]) -> Fetched:
        return await https.ask(Request("GET", host, path), addresses, largest=LARGEST_POLICY)

    return Inspector(
        build_resolver(settings),
        fetch=fetch,
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
    if settings.dns_reports and settings.dns_report_contact:
        _add_reports(runtime, mongo, settings)
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


def _add_reports(runtime: Runtime, mongo: Mongo, settings: DnsSettings) -> None:
    contact = settings.dns_report_contact
    reporter = Reporter(settings.dns_report_organization or contact.rpartition("@")[2], contact)
    https = Https(NetGuard(settings.allow_networks), port=settings.dns_https_port, seconds=REPORT_SECONDS)
    store = ReportStore(mongo)
    planner = Planner(store)
    sender = Sender(store, build_resolver(settings), https, reporter)
    runtime.add_task("report-plans", planner.run)
    for number in range(REPORT_SENDERS):
        runtime.add_task(f"reports-{number}", sender.run)
    runtime.on_drain("reports", sender.drain)


async def serve(settings: DnsSettings) -> int:
    """Run until stopped; the exit status."""
    return await assemble(settings).run()


def run(settings: DnsSettings) -> int:
    """Run the service; the process's exit status."""
    configure_logging(SERVICE, settings.log_level)
    return asyncio.run(serve(settings))
