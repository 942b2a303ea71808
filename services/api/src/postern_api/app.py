"""Puts the API together: the application with its routes, and the process around it."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

import structlog
from fastapi import FastAPI

from postern_api.adapters.resolver import HostResolver
from postern_api.adapters.smtp_probe import SmtpProber
from postern_api.agents import routes as agents
from postern_api.auth import routes as auth
from postern_api.auth.passwords import Passwords
from postern_api.auth.service import Authenticator
from postern_api.customers import routes as customers
from postern_api.directory import routes as directory
from postern_api.domains import routes as domains
from postern_api.domains.mta_sts import routes as mta_sts
from postern_api.domains.mta_sts.serving import policy_app
from postern_api.domains.mta_sts.store import ServedPolicies
from postern_api.groups import routes as groups
from postern_api.http import docs, problems
from postern_api.http.middleware import UPLOAD_SECONDS, Bounds, Surroundings, Uploads
from postern_api.http.openapi import describe
from postern_api.imports import export_routes as exports
from postern_api.imports import routes as imports
from postern_api.imports import upload_routes as uploads
from postern_api.imports.worker import ImportWorker
from postern_api.licences import routes as licences
from postern_api.me import routes as me
from postern_api.messages import routes as messages
from postern_api.resources import SERVICE, Resources
from postern_api.settings import MEBIBYTE, ApiSettings
from postern_api.sites import routes as sites
from postern_api.tokens import routes as tokens
from postern_api.users import deleted_routes as deleted_users
from postern_api.users import routes as users
from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.errors import Temporary
from postern_common.mongo import Mongo
from postern_common.netguard import NetGuard
from postern_common.outbox import OutboxRelay
from postern_common.runtime import QuietServer, Runtime, http_server
from postern_common.secrets import SecretBox
from postern_common.telemetry import configure_logging, package_version

log = structlog.get_logger(__name__)
RETRY_SECONDS: Final = 1.0
UPLOAD_PATHS: Final = (re.compile(r"/v1/customers/[^/]+/imports"),)
# One long import must not hold up everybody else's.
IMPORT_WORKERS: Final = 2
MAX_HEAD_BYTES: Final = 64 * 1024
# The export stands before the users: its last part would be taken for a user's id.
ROUTERS = (
    auth, me, customers, tokens, domains, mta_sts, sites, exports, uploads, imports, users, deleted_users, groups,
    licences, directory, agents, messages, docs,
)  # fmt: skip


def create_app(resources: Resources | None = None) -> FastAPI:
    """The application. Without resources it only describes itself."""
    app = FastAPI(
        title="Postern API",
        summary="Email security for many organisations, self-hosted.",
        version=package_version(),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.resources = resources
    problems.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    settings = resources.settings if resources else None
    app.add_middleware(
        Surroundings,
        max_body_bytes=settings.api_max_body_bytes if settings else MEBIBYTE,
        max_requests=settings.api_max_requests if settings else 1,
        strict_transport=settings.is_production if settings else True,
        uploads=Uploads(UPLOAD_PATHS, Bounds(settings.api_max_import_bytes, UPLOAD_SECONDS)) if settings else None,
    )
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


def make_resources(settings: ApiSettings, mongo: Mongo, kick: Callable[[], None]) -> Resources:
    """What the routes' services share."""
    hello = settings.api_own_mx_hosts[0] if settings.api_own_mx_hosts else "postern.invalid"
    return Resources(
        settings=settings,
        mongo=mongo,
        secrets=SecretBox.from_text(settings.secret_key_text()),
        passwords=Passwords(),
        prober=SmtpProber(HostResolver(settings.dns_servers), NetGuard(settings.allow_networks), hello),
        kick=kick,
    )


def listener(app: FastAPI, settings: ApiSettings) -> QuietServer:
    """The server of the API's port."""
    return _bounded(
        http_server(app, settings.api_host, settings.api_port, drain_seconds=settings.drain_seconds), settings
    )


def _bounded(server: QuietServer, settings: ApiSettings) -> QuietServer:
    """What comes before a body is bounded too."""
    server.config.proxy_headers = bool(settings.api_trusted_proxies)
    server.config.forwarded_allow_ips = settings.api_trusted_proxies or ""
    # uvicorn's other parser takes header sections of any size, from anybody.
    server.config.http = "h11"
    server.config.h11_max_incomplete_event_size = MAX_HEAD_BYTES
    return server


def assemble(settings: ApiSettings) -> Runtime:
    """Connect the parts and hand them to a runtime. Nothing is reached yet."""
    mongo = Mongo.connect(settings, Clock(settings.test_clock), application=SERVICE)
    bus = Bus(settings.amqp_url.get_secret_value(), SERVICE, mongo)
    relay = OutboxRelay(mongo, bus)
    resources = make_resources(settings, mongo, relay.kick)
    server = listener(create_app(resources), settings)
    is_prepared = asyncio.Event()

    async def serve() -> None:
        await prepare(resources)
        is_prepared.set()
        await server.serve()

    async def check_prepared() -> None:
        if not is_prepared.is_set():
            raise Temporary("the first administrator and the indexes are not made yet")

    async def stop_serving() -> None:
        server.should_exit = True
        while server.started and server.server_state.connections:  # noqa: ASYNC110 - uvicorn tells no other way
            await asyncio.sleep(0.05)

    async def close() -> None:
        resources.passwords.close()
        mongo.close()

    runtime = Runtime(SERVICE, settings)
    runtime.add_task("http", serve)
    if settings.api_policy_port:
        _add_policy_server(runtime, mongo, settings)
    runtime.add_task("bus", bus.run)
    runtime.add_task("outbox", relay.run)
    for number in range(IMPORT_WORKERS):
        runtime.add_task(f"imports-{number}", ImportWorker(resources).run)
    runtime.add_check("database", mongo.ping)
    runtime.add_check("prepared", check_prepared)
    runtime.on_drain("http", stop_serving)
    runtime.on_close(close)
    return runtime


def _add_policy_server(runtime: Runtime, mongo: Mongo, settings: ApiSettings) -> None:
    app = policy_app(ServedPolicies(mongo))
    server = _bounded(http_server(app, settings.api_host, settings.api_policy_port, drain_seconds=1), settings)

    async def stop() -> None:
        server.should_exit = True

    runtime.add_task("policies", server.serve)
    runtime.on_drain("policies", stop)


async def prepare(resources: Resources) -> None:
    """Make indexes and the first administrator, as soon as the database is there."""
    await resources.mongo.prepare()
    while True:
        try:
            await Authenticator(resources).bootstrap()
        except Temporary as error:
            log.warning("waiting_for_database", reason=error.reason)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


async def serve(settings: ApiSettings) -> int:
    """Run until stopped; the exit status."""
    return await assemble(settings).run()


def run(settings: ApiSettings) -> int:
    """Run the service; the process's exit status."""
    configure_logging(SERVICE, settings.log_level)
    return asyncio.run(serve(settings))
