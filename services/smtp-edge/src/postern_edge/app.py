"""Puts the edge together: the one place that knows the concrete parts, and the order in which they stop.

Draining: `/readyz` turns negative, the listener closes and lets messages under way end, deliveries under way end or go
back to the queue, and the last events are published; then the connections to the database and the broker close.
"""

import os
import resource
import socket
import sys
from datetime import timedelta
from typing import Final

import structlog
import uvloop

from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.errors import Temporary
from postern_common.ids import new_id
from postern_common.mongo import Mongo
from postern_common.netguard import NetGuard
from postern_common.runtime import Runtime
from postern_common.settings import EX_CONFIG
from postern_common.telemetry import configure_logging
from postern_edge.adapters.policy_files import PolicyFiles
from postern_edge.adapters.resolver import Resolver, are_validating
from postern_edge.adapters.smtp import Timeouts
from postern_edge.bodies.store import BodyStore
from postern_edge.budget import ByteBudget
from postern_edge.delivery import Delivery, Pace, Seams
from postern_edge.directory_cache import DirectoryCache
from postern_edge.directory_index import Directory
from postern_edge.discoveries import Discoveries
from postern_edge.inbound.connect import ConnectionLimits
from postern_edge.inbound.handler import InboundHandler
from postern_edge.limits import Limits
from postern_edge.listener import Listener
from postern_edge.messages import SERVICE
from postern_edge.outbound.notices import Notices
from postern_edge.outbound.router import Router
from postern_edge.outbound.servers import Policy, Servers
from postern_edge.outbound.store import DiscoveryStore, NoticeStore
from postern_edge.port import Port
from postern_edge.publisher import EventPublisher
from postern_edge.queue import Queue
from postern_edge.settings import EdgeSettings
from postern_edge.settlement import Settlement
from postern_edge.spool import MongoSpool
from postern_edge.tls import CertificateError, CertificateWatch
from postern_edge.tls_out.counts import TlsCounts
from postern_edge.tls_out.store import StsPolicyStore, TlsResultStore
from postern_edge.tls_out.sts import StsPolicies

LISTENER_SHARE: Final = 0.4  # of the time for draining; the rest is for deliveries and events
DELIVERY_SHARE: Final = 0.5
SPARE_FILES: Final = 200  # logs, the database's connections, the operations port

log = structlog.get_logger(__name__)


class Edge:
    """All parts of one edge process. `start` opens the port; the runtime does the rest."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.settings = settings
        clock = Clock(settings.test_clock)
        self.mongo = Mongo.connect(settings, clock, application=SERVICE)
        self.bus = Bus(settings.amqp_url.get_secret_value(), SERVICE, self.mongo)
        self.directory = Directory(clock.now, settings.edge_directory_fresh_seconds)
        self.cache = DirectoryCache(self.mongo, self.directory)
        self.bodies = BodyStore(self.mongo)
        self.budget = ByteBudget(settings.edge_in_flight_bytes)
        owner = f"{socket.gethostname()}-{os.getpid()}-{new_id('srv')[-8:]}"
        self.queue = Queue(self.mongo, owner, timedelta(seconds=settings.edge_lease_seconds))
        self.publisher = EventPublisher(self.queue, self.bus, settings.edge_poll_seconds)
        self.discoveries = Discoveries(DiscoveryStore(self.mongo), self.directory)
        self.resolver = self._resolver()
        self.sts = self._sts()
        self.tls_counts = TlsCounts(TlsResultStore(self.mongo), self.queue.time.now)
        self.delivery = self._delivery()
        self.spool = MongoSpool(
            self.mongo,
            self.bodies,
            terms=self.delivery.terms,
            accepted=self.delivery.accepted,
            writers=settings.edge_commit_writers,
            max_messages=settings.edge_commit_messages,
            max_bytes=settings.edge_commit_bytes,
        )
        self.listener = self._listener(clock)

    def _resolver(self) -> Resolver:
        servers, validating = self.settings.dns_servers, self.settings.edge_dns_validates
        if validating is None:
            validating = are_validating(servers)
        log.info("dane", on=validating)
        return Resolver(servers, validating=validating)

    def _sts(self) -> StsPolicies:
        settings = self.settings
        files = PolicyFiles(self.resolver, NetGuard(settings.allow_networks), settings.edge_sts_port)
        return StsPolicies(self.resolver, files, StsPolicyStore(self.mongo), self.queue.time.now)

    def _delivery(self) -> Delivery:
        settings = self.settings
        resolver, guard = self.resolver, NetGuard(settings.allow_networks)
        timeouts = Timeouts(
            settings.edge_connect_timeout_seconds,
            settings.edge_tls_timeout_seconds,
            settings.edge_reply_timeout_seconds,
            settings.edge_final_reply_timeout_seconds,
        )
        policy = Policy(
            settings.edge_hostname,
            timeouts,
            per_server=settings.edge_deliveries_per_server,
            total=settings.edge_deliveries,
            idle_seconds=settings.edge_idle_connection_seconds,
        )
        seams = Seams(
            queue=self.queue,
            bodies=self.bodies,
            directory=self.directory,
            servers=Servers(policy, resolver, guard, self.queue.time.now, self.tls_counts),
            router=Router(self.directory, resolver, self.sts, settings.edge_mx_port),
            settlement=Settlement(
                self.queue,
                self.bodies,
                self.directory,
                Notices(settings.edge_hostname),
                NoticeStore(self.mongo, self.queue, settings.edge_dsn_per_sender_per_hour),
                self.publisher,
                self.discoveries,
                timedelta(seconds=settings.edge_first_retry_seconds),
            ),
            publisher=self.publisher,
            budget=self.budget,
        )
        lifetime = timedelta(seconds=settings.edge_queue_lifetime_seconds)
        return Delivery(seams, Pace(settings.edge_poll_seconds, lifetime, settings.edge_deliveries))

    def _listener(self, clock: Clock) -> Listener:
        settings = self.settings
        certificate, key = settings.edge_tls_certificate_file, settings.edge_tls_key_file
        return Listener(
            Port(
                InboundHandler(self.directory, self.spool, postmaster_domain=settings.edge_postmaster_domain),
                hostname=settings.edge_hostname,
                clock=clock,
                limits=Limits(
                    max_message_bytes=settings.edge_max_message_bytes,
                    line_bytes=settings.edge_max_line_bytes,
                    recipients=settings.edge_max_recipients,
                    messages=settings.edge_max_messages_per_connection,
                    errors=settings.edge_max_errors,
                    command_seconds=settings.edge_command_timeout_seconds,
                    data_idle_seconds=settings.edge_data_timeout_seconds,
                    data_seconds=settings.edge_message_timeout_seconds,
                ),
                connections=ConnectionLimits(settings.edge_max_connections, settings.edge_max_connections_per_address),
                budget=self.budget,
                tls=CertificateWatch(certificate, key) if certificate and key else None,
                balancers=settings.edge_proxy_networks,
            )
        )

    async def follow(self) -> None:
        """Keep the directory current."""
        await self.mongo.prepare()
        await self.cache.run()

    async def serve(self) -> None:
        """Open the port, then keep it; recipients are put off until the directory was read."""
        await self.mongo.prepare()
        settings = self.settings
        await self.listener.start(settings.edge_host, settings.edge_port, reuse_port=settings.edge_reuse_port)
        await self.listener.run()

    async def check_directory(self) -> None:
        """For `/readyz`: raise unless the directory is current."""
        if not self.directory.fresh:
            raise Temporary("the directory is not current")

    async def check_listener(self) -> None:
        """For `/readyz`: raise unless the port is open."""
        if not self.listener.is_open:
            raise Temporary("the port is not open")

    async def check_clock(self) -> None:
        """For `/readyz`: raise `ClockSkew` when what is due cannot be told (SPEC X4)."""
        await self.queue.time.refresh()

    async def close(self) -> None:
        """Close the database's connections."""
        self.mongo.close()
        await self.mongo.close_direct()


def assemble(settings: EdgeSettings) -> Runtime:
    """Hand the parts to a runtime. Nothing is reached yet."""
    edge = Edge(settings)
    runtime = Runtime(SERVICE, settings)
    runtime.add_task("bus", edge.bus.run)
    runtime.add_task("directory", edge.follow)
    runtime.add_task("commit", edge.spool.commit.run)
    runtime.add_task("results", edge.queue.results.run)
    runtime.add_task("publisher", edge.publisher.run)
    runtime.add_task("delivery", edge.delivery.run)
    runtime.add_task("discoveries", edge.discoveries.run)
    runtime.add_task("tls results", edge.tls_counts.run)
    runtime.add_task("listener", edge.serve)
    runtime.add_check("database", edge.mongo.ping)
    # Events wait in the database while the broker is away; mail does not, so the edge stays in service.
    runtime.add_check("broker", edge.bus.check, required=False)
    runtime.add_check("directory", edge.check_directory)
    runtime.add_check("listener", edge.check_listener)
    runtime.add_check("clock", edge.check_clock)
    runtime.on_drain("listener", lambda: edge.listener.drain(settings.drain_seconds * LISTENER_SHARE))
    runtime.on_drain("deliveries", lambda: edge.delivery.drain(settings.drain_seconds * DELIVERY_SHARE))
    runtime.on_drain("events", edge.publisher.drain)
    runtime.on_drain("tls policies", edge.sts.close)
    runtime.on_drain("tls results", edge.tls_counts.drain)
    runtime.on_drain("refused messages", edge.spool.drain)
    runtime.on_close(edge.close)
    return runtime


def raise_file_limit(wanted: int) -> int:
    """Let this process open as many files as the system permits; the limit that holds now, said aloud if too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < wanted:
        log.warning("file_limit_low", limit=hard, wanted=wanted)
    return hard


def run(settings: EdgeSettings) -> int:
    """Run the service; the process's exit status."""
    configure_logging(SERVICE, settings.log_level)
    raise_file_limit(settings.edge_max_connections + settings.edge_deliveries + SPARE_FILES)
    if not settings.edge_postmaster_domain:
        log.info("no_postmaster_domain", postmaster_domain=settings.edge_hostname)

    async def serve() -> int:
        try:
            runtime = assemble(settings)
        except CertificateError as error:
            sys.stderr.write(f"settings: POSTERN_EDGE_TLS_CERTIFICATE_FILE: {error}\n")
            return EX_CONFIG
        return await runtime.run()

    return uvloop.run(serve())
