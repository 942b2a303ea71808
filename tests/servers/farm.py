"""The servers of one test worker: started when first asked for, one set for all its tests, gone with the worker.

`POSTERN_TEST_EXTERNAL=1` uses the servers of MONGODB_URI and AMQP_URL instead; each test still gets a database and a
vhost of its own, so nothing of theirs is read or changed. The broker needs its management interface, on port 15672 or
where POSTERN_TEST_MANAGEMENT_URL says.
"""

import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx2
from pymongo import MongoClient

from postern_local.keys import Keys
from postern_local.mongod import Mongod
from postern_local.nameserver import Nameserver
from postern_local.nexthop import SmtpSink
from postern_local.ports import free_ports
from postern_local.process import Processes
from postern_local.rabbitmq import Epmd, RabbitMQ
from postern_local.unit import Part, Unit
from tests.servers.waiting import eventually

EXTERNAL = os.environ.get("POSTERN_TEST_EXTERNAL") == "1"


class Farm:
    """A private folder with servers; `close` ends them and removes it (kept with POSTERN_TEST_KEEP=1)."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="postern-test-"))
        self.directory.chmod(0o755)  # smtp-sink runs as nobody
        self.processes = Processes(self.directory)
        self.keys = Keys.make()
        self._units: dict[str, Unit] = {}
        self._http = httpx2.Client(timeout=20, trust_env=False)

    def unit(self, name: str, make: Callable[[], Part]) -> Unit:
        """The running unit of that name, started by its first user."""
        unit = self._units.get(name)
        if unit is None:
            unit = self._units[name] = Unit(make(), self.processes)
        if not unit.alive:
            _tell_of_death(unit)
            unit.start(120)
        return unit

    def existing(self, name: str) -> Unit:
        """A unit as it is, running or killed."""
        return self._units[name]

    def mongod(self) -> Unit:
        """The worker's database server."""
        return self.unit("mongod", lambda: Mongod(self.directory / "mongod", free_ports(1)[0]))

    def rabbitmq(self) -> Unit:
        """The worker's broker, with the management interface that makes and removes vhosts."""
        epmd = self.unit("epmd", lambda: Epmd(free_ports(1)[0]))
        assert isinstance(epmd.part, Epmd)
        return self.unit("rabbitmq", lambda: self._broker(epmd.part.port))  # type: ignore[attr-defined]

    def _broker(self, epmd_port: int) -> RabbitMQ:
        port, distribution, management = free_ports(3)
        return RabbitMQ(
            self.directory / "rabbitmq",
            port,
            epmd_port,
            self.keys.amqp_password,
            self.keys.erlang_cookie,
            self.keys.node,
            distribution,
            management,
        )

    def named(self) -> Nameserver:
        """The worker's authoritative name server."""
        unit = self.unit("named", lambda: Nameserver(self.directory / "named", free_ports(1)[0], self.keys.tsig_key))
        assert isinstance(unit.part, Nameserver)
        return unit.part

    def sink(self, *options: str) -> tuple[Unit, SmtpSink]:
        """A next hop of its own, not yet started."""
        name = f"sink-{secrets.token_hex(3)}"
        part = SmtpSink(self.directory / name, free_ports(1)[0], options, name)
        return Unit(part, self.processes), part

    def mongo_uri(self) -> str:
        """The database server's address."""
        if EXTERNAL:
            return os.environ["MONGODB_URI"]
        part = self.mongod().part
        assert isinstance(part, Mongod)
        return part.uri

    def amqp_url(self) -> str:
        """The broker's address, vhost `/`."""
        if EXTERNAL:
            return os.environ["AMQP_URL"]
        part = self.rabbitmq().part
        assert isinstance(part, RabbitMQ)
        return part.url

    def drop_database(self, name: str) -> None:
        """Remove a test's database."""
        client: MongoClient[dict[str, Any]] = MongoClient(self.mongo_uri(), serverSelectionTimeoutMS=10000)
        client.drop_database(name)
        client.close()

    def add_vhost(self) -> str:
        """A fresh vhost; its AMQP URL."""
        name = f"test-{secrets.token_hex(6)}"
        self.management("PUT", f"/api/vhosts/{name}")
        return urlunsplit(urlsplit(self.amqp_url())._replace(path="/" + quote(name, safe="")))

    def await_queues(self) -> None:
        """Wait until a crash of the broker loses no queue; see `queues_not_on_disk`."""
        part = self.rabbitmq().part
        assert isinstance(part, RabbitMQ)
        eventually(lambda: not part.queues_not_on_disk(), timeout=15)

    def drop_vhost(self, url: str) -> None:
        """Remove a test's vhost from a server that outlives us.

        Our own goes with the worker: RabbitMQ 3.10's dead-letter workers crash, and take the broker with them, when a
        vhost is removed just after its quorum queues were declared.
        """
        if EXTERNAL:
            self.management("DELETE", f"/api/vhosts/{urlsplit(url).path.removeprefix('/')}")

    def management(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the broker's management interface."""
        parts = urlsplit(self.amqp_url())
        base = os.environ.get("POSTERN_TEST_MANAGEMENT_URL") or f"http://{parts.hostname}:15672"
        if not EXTERNAL:
            part = self.rabbitmq().part
            assert isinstance(part, RabbitMQ)
            base = part.management or base
        auth = (unquote(parts.username or "guest"), unquote(parts.password or "guest"))
        try:
            answer = self._http.request(method, base + path, json=body, auth=auth)
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            raise AssertionError(f"the broker's management interface is needed at {base}: {error}") from error
        return answer.json() if answer.content else None

    def close(self) -> None:
        """End everything and remove the folder."""
        self._http.close()
        for unit in self._units.values():
            unit.kill()
        self.processes.sweep()
        if os.environ.get("POSTERN_TEST_KEEP") != "1":
            shutil.rmtree(self.directory, ignore_errors=True)


def _tell_of_death(unit: Unit) -> None:
    """A server that no test has killed should not be dead: show why it is, past what pytest captures."""
    if unit.child is not None and unit.child.process.returncode not in {0, -signal.SIGKILL, -signal.SIGTERM}:
        status = unit.child.process.returncode
        print(f"{unit.name} ended with status {status}:\n{unit.child.log_tail()}", file=sys.__stderr__, flush=True)
