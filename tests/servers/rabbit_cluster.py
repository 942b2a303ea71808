"""A RabbitMQ cluster of three nodes on loopback behind one address, as a Kubernetes Service or HAProxy gives it."""

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2
import psutil

from postern_local.files import write_private
from postern_local.keys import Keys
from postern_local.ports import free_ports
from postern_local.process import Processes, Program
from postern_local.rabbitmq import Epmd, RabbitMQ
from postern_local.unit import Unit
from tests.servers.waiting import eventually

NODES = 3
# A node that stands still takes connections all the same, so that it has to answer the protocol header (AMQP 0-9-1).
_BALANCER = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout check 2s
listen amqp
    bind 127.0.0.1:{port}
    balance first
    option redispatch
    option tcp-check
    tcp-check connect
    tcp-check send-binary 414d515000000901
    tcp-check expect binary 01
    default-server check inter 500 fall 2 rise 2 on-marked-down shutdown-sessions
"""


@dataclass(frozen=True)
class Node(RabbitMQ):
    """A node that joins the others by their names when it first starts."""

    peers: tuple[str, ...] = ()

    def program(self) -> Program:
        """As a single node, with the cluster in its configuration."""
        program = super().program()
        config = self.directory / "rabbitmq.conf"
        lines = [
            "cluster_formation.peer_discovery_backend = classic_config",
            *(f"cluster_formation.classic_config.nodes.{n} = {peer}" for n, peer in enumerate(self.peers, start=1)),
            "cluster_partition_handling = pause_minority",
        ]
        write_private(config, config.read_text() + "\n".join(lines) + "\n")
        return program


class RabbitCluster:
    """`start`, `close`; `url` is the balancer's; `nodes` are units to kill and start.

    The balancer gives every connection to the first node that answers, so that most are lost with one node.
    """

    def __init__(self, directory: Path, processes: Processes, keys: Keys) -> None:
        self._directory = directory
        directory.mkdir()
        self._processes = processes
        [epmd_port, self._port] = free_ports(2)
        self._epmd = Unit(Epmd(epmd_port, f"{directory.name}-epmd"), processes)
        names = tuple(f"{directory.name}-{number}@localhost" for number in range(1, NODES + 1))
        self._parts = []
        for name in names:
            port, distribution, management = free_ports(3)
            own = directory / name.partition("@")[0]
            node = Node(own, port, epmd_port, keys.amqp_password, keys.erlang_cookie, name, distribution, management)
            self._parts.append(replace(node, name=own.name, peers=names))
        self.nodes = [Unit(part, processes) for part in self._parts]
        self._balancer: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The balancer's address, vhost `/`."""
        parts = urlsplit(self._parts[0].url)
        password = quote(self._parts[0].password, safe="")
        return urlunsplit(parts._replace(netloc=f"{self._parts[0].user}:{password}@127.0.0.1:{self._port}"))

    def start(self) -> None:
        """Start all, wait until they are one cluster, then the balancer."""
        self._epmd.start()
        self.nodes[0].start(90)  # the first makes the cluster, the others join it
        for unit in self.nodes[1:]:
            unit.launch()
        for unit in self.nodes[1:]:
            unit.await_ready(90)
        eventually(lambda: len(self.ask("/api/nodes")) == NODES, timeout=60, pause=0.5)
        config = self._directory / "haproxy.cfg"
        servers = [f"    server {part.name} 127.0.0.1:{part.port}\n" for part in self._parts]
        config.write_text(_BALANCER.format(port=self._port) + "".join(servers))
        haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
        assert haproxy
        self._balancer = subprocess.Popen([haproxy, "-f", str(config), "-db", "-q"])

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """The management interface of the first node that answers."""
        failure: Exception | None = None
        for part, unit in zip(self._parts, self.nodes, strict=True):
            if unit.alive:
                try:
                    answer = httpx2.request(
                        method,
                        f"{part.management}{path}",
                        json=body,
                        auth=(part.user, part.password),
                        timeout=20,
                        trust_env=False,
                    )
                    answer.raise_for_status()
                    return answer.json() if answer.content else None
                except httpx2.HTTPError as error:
                    failure = error
        raise AssertionError(f"no node answers: {failure}")

    def replicas(self) -> dict[str, tuple[int, int]]:
        """Of each quorum queue, how many members it has and how many of them are online."""
        return {
            queue["name"]: (len(queue["members"]), len(queue["online"]))
            for queue in self.ask("/api/queues")
            if queue["type"] == "quorum"
        }

    def busiest(self) -> Unit:
        """The node with the most clients."""
        return max(self.nodes, key=self._clients)

    def _clients(self, unit: Unit) -> int:
        part = unit.part
        assert isinstance(part, Node)
        assert unit.child is not None
        open_ones = psutil.Process(unit.child.pid).net_connections("tcp")
        return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == part.port for one in open_ones)

    def are_queues_on_disk(self) -> bool:
        """Whether a crash loses no queue now; see `RabbitMQ.queues_not_on_disk`."""
        return not any(part.queues_not_on_disk() for part in self._parts)

    def close(self) -> None:
        """End all."""
        if self._balancer is not None:
            self._balancer.kill()
            self._balancer.wait(10)
        for unit in [*self.nodes, self._epmd]:
            unit.kill()
