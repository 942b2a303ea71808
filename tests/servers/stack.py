"""A whole stack for a test module: the five services on private ports, on the worker's servers.

The servers are the worker's own, so a test may kill them too; the database, the vhost, the next hop and the clock
belong to this stack alone.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from postern_local.apiclient import Api
from postern_local.files import write_text
from postern_local.keys import Keys
from postern_local.nexthop import SmtpSink
from postern_local.ports import Ports, free_ports
from postern_local.services import ADMIN_LOGIN, MODULES, Service, Surroundings
from postern_local.unit import Unit
from tests.servers.farm import EXTERNAL, Farm
from tests.servers.waiting import eventually


class Stack:
    """Parts by name: `api`, `edge`, `edge2`, `dns`, `sync`, `deletion`; `mongod`, `rabbitmq`, `nexthop`."""

    def __init__(
        self, farm: Farm, edges: int = 1, settings: Mapping[str, str] | None = None, *, moves_clock: bool = True
    ) -> None:
        self.farm = farm
        name = f"stack-{secrets.token_hex(3)}"
        self.directory = farm.directory / name
        self.directory.mkdir()
        self.keys = Keys.make()
        self.ports = Ports.free()
        self.database = f"test_{secrets.token_hex(6)}"
        self.vhost = farm.add_vhost()
        self.named = farm.named()
        self.next_hop = SmtpSink(self.directory / "nexthop", self.ports["NEXTHOP"], name=f"nexthop-{name}")
        self.clock = self.directory / "clock"
        self.move_clock(0)
        clock = {"POSTERN_TEST_CLOCK": str(self.clock)} if moves_clock else {}
        self.surroundings = self._surroundings(clock | dict(settings or {}))
        self.units = {"nexthop": Unit(self.next_hop, farm.processes)}
        for service in self.surroundings.services():
            self.units[service.name] = self._unit(service, name)
        for number in range(2, edges + 1):
            self.add_edge(f"edge{number}", name)
        self.api = Api(f"http://127.0.0.1:{self.ports['API']}", self.keys.api_token)

    def _surroundings(self, settings: Mapping[str, str]) -> Surroundings:
        extra = {"POSTERN_MONGODB_DATABASE": self.database, **settings}
        return Surroundings(
            self.directory,
            self.ports,
            self.keys,
            self.farm.mongo_uri(),
            self.vhost,
            self.named.port,
            self.ports["NEXTHOP"],
            environment="test",
            extra=extra,
        )

    def _unit(self, service: Service, prefix: str) -> Unit:
        return Unit(replace(service, name=f"{prefix}-{service.name}"), self.farm.processes)

    def add_edge(self, name: str, prefix: str = "", **settings: str) -> None:
        """A further edge beside the first, not yet started, on a port of its own unless `settings` name one."""
        port, ops_port = free_ports(2)
        own = {"POSTERN_EDGE_PORT": str(port)} | settings
        service = self.surroundings.service("edge", name, ops_port, **own)
        self.units[name] = self._unit(service, prefix or self.directory.name)

    def start_all(self) -> None:
        """Start what does not run, and wait until all of it is ready."""
        for unit in self.units.values():
            unit.launch()
        for unit in self.units.values():
            unit.await_ready(60)

    def start(self, name: str) -> None:
        """Start a stopped or killed part and wait until it is ready."""
        self._part(name).start()

    def stop(self, name: str) -> None:
        """Stop a part politely (SIGTERM; services drain)."""
        self._part(name).stop()

    def kill(self, name: str) -> None:
        """End a part with SIGKILL."""
        if name == "rabbitmq":
            self.farm.await_queues()
        self._part(name).kill()

    def restart(self, name: str) -> None:
        """Stop a part politely and start it again."""
        self._part(name).restart()

    def await_ready(self, *names: str, timeout: float = 60.0) -> None:
        """Wait until these parts (or all services) say they are ready, as after a server came back."""
        for name in names or tuple(MODULES):
            self._part(name).await_ready(timeout)

    def _part(self, name: str) -> Unit:
        if name not in ("mongod", "rabbitmq"):
            return self.units[name]
        if EXTERNAL:
            raise AssertionError(f"{name} is external here and must not be touched")
        return self.farm.existing(name)

    def move_clock(self, seconds: float) -> None:
        """Set how far every service's clock is ahead of the real one."""
        write_text(self.clock, f"{seconds}\n")

    def smtp(self, name: str = "edge") -> tuple[str, int]:
        """Where an edge takes mail."""
        part = self.units[name].part
        assert isinstance(part, Service)
        return "127.0.0.1", int(part.env["POSTERN_EDGE_PORT"])

    def ops_url(self, name: str) -> str:
        """A service's operations port: /livez, /readyz, /metrics."""
        part = self.units[name].part
        assert isinstance(part, Service)
        return part.ops_url

    def log(self, name: str) -> Path:
        """The log file of a part."""
        return self.farm.processes.logs / f"{self._part(name).name}.log"

    def signed_in(self) -> Api:
        """A caller with the bootstrap administrator's session instead of the token."""
        return self.api.signed_in(ADMIN_LOGIN, self.keys.admin_password)

    def customer(self, name: str = "") -> str:
        """A new customer; its id."""
        return str(self.api.post("/v1/customers", {"name": name or f"Customer {secrets.token_hex(4)}"})["id"])

    def publish_code(self, domain: dict[str, Any]) -> None:
        """Publish the verification record of a domain as the API gave it."""
        self.named.update(domain["name"], "TXT", [domain["verification"]["record"]["value"]])

    def domain(self, customer: str, name: str = "") -> str:
        """A new domain of the customer, published and verified; its name."""
        path = f"/v1/customers/{customer}/domains"
        domain = self.api.post(path, {"name": name or f"d{secrets.token_hex(4)}.scratch.test"})
        self.publish_code(domain)
        own = f"{path}/{domain['name']}"
        eventually(lambda: self.api.post(f"{own}/verify")["state"] == "verified", timeout=20, pause=0.3)
        return str(domain["name"])

    def site(self, customer: str, *ports: int, host: str = "127.0.0.1") -> dict[str, Any]:
        """A default site of the customer with these next hops in order, or the stack's own."""
        servers = [
            {"host": host, "port": port, "priority": 10 * number}
            for number, port in enumerate(ports or (self.next_hop.port,), start=1)
        ]
        body = {"description": "Head office", "is_default": True, "servers": servers}
        site: dict[str, Any] = self.api.post(f"/v1/customers/{customer}/sites", body)
        return site

    def user(self, customer: str, email: str, **fields: Any) -> dict[str, Any]:
        """A new user of the customer."""
        body = {"email": email, "first_name": "Ada", "last_name": "Lovelace", **fields}
        user: dict[str, Any] = self.api.post(f"/v1/customers/{customer}/users", body)
        return user

    def close(self) -> None:
        """End the services and remove what belonged to this stack."""
        self.api.close()
        for unit in self.units.values():
            unit.kill()
        self.farm.drop_vhost(self.vhost)
        self.farm.drop_database(self.database)


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """The stack, started, until the block ends."""
    try:
        stack.start_all()
        yield stack
    finally:
        stack.close()
