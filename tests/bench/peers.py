"""The two peers under the same load: Postern's stack, and a private Postfix, each with a next hop of its own."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psutil
from pymongo import MongoClient
from rich.console import Console

from postern_common.documents import Collections
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.bench.load import TIMEOUT_SECONDS, Case, send
from tests.servers.counting_sink import CountingSink
from tests.servers.farm import Farm
from tests.servers.postfix import Postfix
from tests.servers.stack import Stack


class Peers:
    """Both peers, started together and idle in turn. `edges` processes share a port, whatever the case."""

    def __init__(self, console: Console, edges: int = 1) -> None:
        console.print("starting mongod, RabbitMQ, the services, and Postfix ...")
        self._directory = Path(tempfile.mkdtemp(prefix="postern-bench-"))
        self._directory.chmod(0o755)
        self._farm = Farm()
        self._sinks = {name: CountingSink(self._directory / name, port) for name, port in self._named_ports()}
        settings = {"POSTERN_EDGE_MAX_CONNECTIONS_PER_ADDRESS": "500", "POSTERN_EDGE_REUSE_PORT": "true"}
        self._stack = Stack(self._farm, settings=settings, moves_clock=False)
        self._postfix = Postfix(self._directory / "postfix", self._sinks["postfix"].port)
        self._ports = dict(zip(("taking", "delivering"), free_ports(2), strict=True))
        self._edges = {mode: [f"{mode}{number}" for number in range(edges)] for mode in self._ports}
        self._mode = ""

    @staticmethod
    def _named_ports() -> list[tuple[str, int]]:
        return list(zip(("postern", "postfix"), free_ports(2), strict=True))

    def __enter__(self) -> Self:
        for sink in self._sinks.values():
            sink.start()
        for mode, names in self._edges.items():
            for name in names:
                # What takes only leaves delivery to others, of which none runs meanwhile.
                only = {"POSTERN_EDGE_DELIVERIES": "0"} if mode == "taking" else {}
                self._stack.add_edge(name, POSTERN_EDGE_PORT=str(self._ports[mode]), **only)
        self._stack.start_all()
        customer = self._stack.customer()
        self.domain = self._stack.domain(customer)
        self._stack.site(customer, self._sinks["postern"].port)
        for name in ("edge", *self._edges["taking"], *self._edges["delivering"]):
            self._stack.stop(name)
        self._postfix.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._postfix.stop()
        self._stack.close()
        for sink in self._sinks.values():
            sink.stop()
        self._farm.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def use(self, mode: str) -> None:
        """Have the edges of that mode run, and no others."""
        if mode != self._mode:
            for name in self._edges.get(self._mode, ()):
                self._stack.stop(name)
            for name in self._edges[mode]:
                self._stack.start(name)
            self._mode = mode
            time.sleep(1)

    def postern(self, case: Case, count: int) -> float:
        """Messages a second through Postern."""
        port = self._ports[case.mode]
        if case.mode == "taking":
            rate = count / send(case, count, port, f"bench@{self.domain}")
            self._empty_queue()
            return rate
        return self._delivered("postern", case, count, port, f"bench@{self.domain}")

    def postfix(self, case: Case, count: int) -> float:
        """Messages a second through Postfix."""
        if case.mode == "taking":
            rate = count / send(case, count, self._postfix.holding_port, "bench@relay.test")
            self._postfix.empty_hold_queue()
            return rate
        return self._delivered("postfix", case, count, self._postfix.relaying_port, "bench@relay.test")

    def _empty_queue(self) -> None:
        """Remove what was taken, so that every round meets the same queue; its events are told by then."""
        time.sleep(1)
        with MongoClient[dict[str, Any]](self._farm.mongo_uri()) as client:
            for name in (Collections.MESSAGES, Collections.BODIES):
                client[self._stack.database][name.value].delete_many({})

    def _delivered(self, name: str, case: Case, count: int, port: int, recipient: str) -> float:
        sink = self._sinks[name]
        before = sink.count()
        began = time.perf_counter()
        send(case, count, port, recipient)
        while sink.count() - before < count:
            if time.perf_counter() - began > TIMEOUT_SECONDS:
                raise RuntimeError(f"{name} delivered {sink.count() - before} of {count}")
            time.sleep(0.01)
        return count / (time.perf_counter() - began)

    def processor_seconds(self) -> dict[str, float]:
        """Processor time used so far: by the edges, by their database, and by Postfix."""
        used = {
            "edge": 0.0,
            "mongod": _used(self._farm.existing("mongod")),
            "postfix": self._postfix.processor_seconds(),
        }
        used["edge"] = sum(_used(self._stack.units[name]) for name in self._edges.get(self._mode, ()))
        return used


def _used(unit: Unit) -> float:
    if unit.child is None:
        return 0.0
    times = psutil.Process(unit.child.process.pid).cpu_times()
    return float(times.user + times.system)
