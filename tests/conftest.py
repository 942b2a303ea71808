"""Fixtures of the tests that need servers: each worker has one set, each test a database and a vhost of its own."""

import secrets
from collections.abc import Callable, Iterator

import pytest

from postern_local.nameserver import Nameserver
from postern_local.nexthop import SmtpSink
from postern_local.unit import Unit
from tests.servers.farm import Farm
from tests.servers.stack import Stack


@pytest.fixture(scope="session")
def farm() -> Iterator[Farm]:
    """The servers of this worker."""
    servers = Farm()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def mongod(farm: Farm) -> str:
    """The URI of a one-member replica set."""
    return farm.mongo_uri()


@pytest.fixture(scope="session")
def rabbitmq(farm: Farm) -> str:
    """The AMQP URL of a broker, vhost `/`; tests use `vhost`."""
    return farm.amqp_url()


@pytest.fixture(scope="session")
def named(farm: Farm) -> Nameserver:
    """Authoritative for demo.test and scratch.test: `.host`, `.port`, `.tsig`, `.update(name, type, values)`."""
    return farm.named()


@pytest.fixture
def mongod_unit(farm: Farm, mongod: str) -> Iterator[Unit]:
    """The database server itself, to `kill` and `start`; runs again after the test."""
    unit = farm.mongod()
    yield unit
    farm.mongod()


@pytest.fixture
def rabbitmq_unit(farm: Farm, rabbitmq: str) -> Iterator[Unit]:
    """The broker itself, to `kill` and `start`; runs again after the test."""
    unit = farm.rabbitmq()
    yield unit
    farm.rabbitmq()


@pytest.fixture
def mongo_uri(mongod: str) -> str:
    """The database server's URI; the name to use with it is `database`."""
    return mongod


@pytest.fixture
def database(farm: Farm, mongod: str) -> Iterator[str]:
    """The name of a fresh database, dropped after the test."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    farm.drop_database(name)


@pytest.fixture
def vhost(farm: Farm, rabbitmq: str) -> Iterator[str]:
    """The AMQP URL of a fresh vhost, removed after the test."""
    url = farm.add_vhost()
    yield url
    farm.drop_vhost(url)


@pytest.fixture
def sinks(farm: Farm) -> Iterator[Callable[..., SmtpSink]]:
    """Start next hops with smtp-sink's own options: `sinks("-r", "rcpt")`."""
    running: list[Unit] = []

    def start(*options: str) -> SmtpSink:
        unit, part = farm.sink(*options)
        running.append(unit)
        unit.start()
        return part

    yield start
    for unit in running:
        unit.stop()


@pytest.fixture
def smtp_sink(sinks: Callable[..., SmtpSink]) -> SmtpSink:
    """A next hop that takes everything: `.host`, `.port`, `.directory`, `.messages()`."""
    return sinks()


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, farm: Farm) -> Iterator[Stack]:
    """The five services on private ports; a module may set STACK_EDGES and STACK_SETTINGS (more environment)."""
    edges = getattr(request.module, "STACK_EDGES", 1)
    whole = Stack(farm, edges, getattr(request.module, "STACK_SETTINGS", None))
    try:
        whole.start_all()
        yield whole
    finally:
        whole.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests counted (`record_property("counts", ...)`), also where their output is captured."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", ()):
                if name == "counts" and getattr(report, "when", "") == "call":
                    terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
