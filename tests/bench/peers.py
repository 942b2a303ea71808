"""The peers under the same load: Postern, a private Postfix, each with a next hop of its own, and Haraka that discards.

All stand side by side and are idle in turn.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from rich.console import Console

from postern_local.faults import StackFault
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.bench.gateway import Gateway
from tests.bench.haraka import Haraka, NotHere, install
from tests.bench.load import TIMEOUT_SECONDS, Case, Mode, send
from tests.bench.usage import generator_seconds, machine_seconds, tree_seconds, unit_seconds
from tests.servers.counting_sink import CountingSink
from tests.servers.farm import Farm
from tests.servers.postfix import Postfix

WARM_UP: Final = 200
POSTFIX_RECIPIENT: Final = "bench@relay.test"


@dataclass(frozen=True, slots=True)
class Setting:
    """How Postern runs: edge processes on one port, and members of the replica set."""

    edges: int
    members: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: messages a second.

    `loaded` are the processor seconds by whom while the load lasted, `seconds` of wall-clock time; `cost` those of
    1,000 messages, with what follows the 250.
    """

    rate: float
    seconds: float
    loaded: dict[str, float]
    cost: dict[str, float]


class Peers:
    """Postern and Postfix, started together, and Haraka with `add_haraka`."""

    def __init__(self, console: Console, most_edges: int = 1, members: Sequence[int] = (1,)) -> None:
        console.print("starting mongod, RabbitMQ, the services and Postfix ...")
        self.directory = Path(tempfile.mkdtemp(prefix="postern-bench-"))
        self.directory.chmod(0o755)
        self._ending = ExitStack()
        self._ending.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.farm = Farm()
        self._ending.callback(self.farm.close)
        sinks = zip(("postern", "postfix"), free_ports(2), strict=True)
        self._sinks = {name: CountingSink(self.directory / name, port) for name, port in sinks}
        self.gateways = {
            number: Gateway(self.farm, number, most_edges, self._sinks["postern"].port) for number in members
        }
        self.postfix = Postfix(self.directory / "postfix", self._sinks["postfix"].port)
        self._haraka: Unit | None = None
        self.no_haraka = ""

    def __enter__(self) -> Self:
        try:
            for sink in self._sinks.values():
                sink.start()
                self._ending.callback(sink.stop)
            for gateway in self.gateways.values():
                self._ending.callback(gateway.close)
                gateway.start()
            self.postfix.start()
            self._ending.callback(self.postfix.stop)
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def add_haraka(self) -> None:
        """Start Haraka too, where it can be had; else `no_haraka` says why not."""
        try:
            script = install()
        except NotHere as reason:
            self.no_haraka = str(reason)
            return
        unit = Unit(Haraka(self.directory / "haraka", free_ports(1)[0], script), self.farm.processes)
        try:
            unit.start()
        except StackFault as fault:
            unit.kill()
            self.no_haraka = str(fault).partition("\n")[0]
            return
        self._haraka = unit
        self.measure_haraka(Case("taking", 20, 4096, True, WARM_UP), 5 * WARM_UP)  # it compiles what runs often

    def use(self, mode: Mode, setting: Setting) -> Gateway:
        """Have those edges run, and no others; fresh ones are warmed up."""
        chosen = self.gateways[setting.members]
        for gateway in self.gateways.values():
            if gateway is not chosen:
                gateway.rest()
        if chosen.run(mode, setting.edges):
            send(Case(mode, 20, 4096, True, WARM_UP), WARM_UP, chosen.port(mode), chosen.recipient)
            chosen.settle(mode)
            chosen.empty()
        return chosen

    def measure_postern(self, case: Case, count: int, setting: Setting) -> Sample:
        """Send `count` messages through Postern."""
        gateway = self.use(case.mode, setting)
        seen = self._sinks["postern"].count()

        def load() -> None:
            send(case, count, gateway.port(case.mode), gateway.recipient)
            if case.mode == "delivering":
                self._await_sink("postern", seen + count)

        sample = self._measure(count, gateway.seconds, load, lambda: gateway.settle(case.mode))
        gateway.empty()
        return sample

    def measure_postfix(self, case: Case, count: int) -> Sample:
        """Send `count` messages through Postfix, with Postern's edges as they are: idle."""
        seen = self._sinks["postfix"].count()

        def load() -> None:
            if case.mode == "taking":
                send(case, count, self.postfix.holding_port, POSTFIX_RECIPIENT)
                return
            send(case, count, self.postfix.relaying_port, POSTFIX_RECIPIENT)
            self._await_sink("postfix", seen + count)

        sample = self._measure(count, lambda: {"postfix": self.postfix.processor_seconds()}, load)
        if case.mode == "taking":
            self.postfix.empty_hold_queue()
        return sample

    def measure_haraka(self, case: Case, count: int) -> Sample | None:
        """Send `count` messages to Haraka; None where it is not here, or the case is none of its."""
        haraka = self._haraka
        if haraka is None or case.mode != "taking":
            return None
        assert isinstance(haraka.part, Haraka)
        port = haraka.part.port

        def load() -> None:
            send(case, count, port, POSTFIX_RECIPIENT)

        return self._measure(count, lambda: {"haraka": unit_seconds(haraka)}, load)

    def _await_sink(self, name: str, wanted: int) -> None:
        sink = self._sinks[name]
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while sink.count() < wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not deliver {wanted - sink.count()} messages")
            time.sleep(0.01)

    def _measure(
        self,
        count: int,
        used: Callable[[], dict[str, float]],
        load: Callable[[], None],
        settle: Callable[[], None] = lambda: None,
    ) -> Sample:
        """Time `load`; who used the processors meanwhile, and until `settle` returns."""

        def look() -> dict[str, float]:
            next_hop = sum(tree_seconds(sink.pid) for sink in self._sinks.values())
            return used() | machine_seconds() | {"generator": generator_seconds(), "next hop": next_hop}

        before = look()
        began = time.perf_counter()
        load()
        seconds = time.perf_counter() - began
        after = look()
        settle()
        settled = used()
        return Sample(
            count / seconds,
            seconds,
            {name: after[name] - before[name] for name in after},
            {name: (settled[name] - before[name]) / count * 1000 for name in settled},
        )
