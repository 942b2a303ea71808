"""The two peers under the same load: Postern's stack, and a private Postfix, each with a next hop of its own."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

import psutil
from rich.console import Console

from postern_local.ports import free_ports
from tests.bench.load import TIMEOUT_SECONDS, Case, send
from tests.servers.counting_sink import CountingSink
from tests.servers.farm import Farm
from tests.servers.postfix import Postfix
from tests.servers.stack import Stack


class Peers:
    """Both peers, started together and idle in turn."""

    def __init__(self, console: Console) -> None:
        console.print("starting mongod, RabbitMQ, the services, and Postfix ...")
        self._directory = Path(tempfile.mkdtemp(prefix="postern-bench-"))
        self._directory.chmod(0o755)
        self._farm = Farm()
        self._sinks = {name: CountingSink(self._directory / name, port) for name, port in self._named_ports()}
        self._stack = Stack(self._farm, settings={"POSTERN_EDGE_MAX_CONNECTIONS_PER_ADDRESS": "500"})
        self._postfix = Postfix(self._directory / "postfix", self._sinks["postfix"].port)

    @staticmethod
    def _named_ports() -> list[tuple[str, int]]:
        return list(zip(("postern", "postfix"), free_ports(2), strict=True))

    def __enter__(self) -> Self:
        for sink in self._sinks.values():
            sink.start()
        self._stack.add_edge("taker", POSTERN_EDGE_DELIVERIES="0")
        self._stack.start_all()
        customer = self._stack.customer()
        self.domain = self._stack.domain(customer)
        self._stack.site(customer, self._sinks["postern"].port)
        self._taken = self._stack.customer()
        self.held_domain = self._stack.domain(self._taken)
        self._postfix.start()
        time.sleep(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._postfix.stop()
        self._stack.close()
        for sink in self._sinks.values():
            sink.stop()
        self._farm.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def postern(self, case: Case, count: int) -> float:
        """Messages a second through Postern."""
        if case.mode == "taking":
            return count / send(case, count, self._stack.smtp("taker")[1], f"bench@{self.held_domain}")
        return self._delivered("postern", case, count, self._stack.smtp()[1], f"bench@{self.domain}")

    def postfix(self, case: Case, count: int) -> float:
        """Messages a second through Postfix."""
        if case.mode == "taking":
            rate = count / send(case, count, self._postfix.holding_port, "bench@relay.test")
            self._postfix.empty_hold_queue()
            return rate
        return self._delivered("postfix", case, count, self._postfix.relaying_port, "bench@relay.test")

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

    def processor_seconds(self) -> float:
        """Processor time used so far by Postern's edges and its database."""
        units = [self._stack.units["edge"], self._stack.units["taker"], self._farm.existing("mongod")]
        total = 0.0
        for unit in units:
            if unit.child is not None:
                times = psutil.Process(unit.child.process.pid).cpu_times()
                total += times.user + times.system
        return total
