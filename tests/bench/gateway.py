"""Postern as a peer: edges on one port, a customer whose next hop discards, and one or several members of mongod.

The other services stop once the customer is set up: they take no part in mail, and would use the processors that are
measured.
"""

from collections.abc import Sequence
from typing import Any, Final

from pymongo import MongoClient

from postern_common.documents import Collections
from postern_edge.bodies.store import BUCKET
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.bench.load import Mode
from tests.bench.usage import unit_seconds
from tests.servers.farm import Farm
from tests.servers.replica_set import MEMBERS, ReplicaSet
from tests.servers.stack import Stack
from tests.servers.waiting import eventually

SETTINGS: Final = {"POSTERN_EDGE_MAX_CONNECTIONS_PER_ADDRESS": "500", "POSTERN_EDGE_REUSE_PORT": "true"}
SETTLE_SECONDS: Final = 300.0
START_SECONDS: Final = 120.0


class Gateway:
    """Started with all its edges down; `run` has that many of a mode run. `members` is 1, or 3 for a set of its own."""

    def __init__(self, farm: Farm, members: int, most_edges: int, sink_port: int) -> None:
        if members not in {1, MEMBERS}:
            raise ValueError(f"a replica set has 1 member or {MEMBERS} here, not {members}")
        self._farm = farm
        self._sink_port = sink_port
        self._set = ReplicaSet(farm.directory / "mongod-set", farm.processes) if members > 1 else None
        own = {"MONGODB_URI": self._set.uri} if self._set else {}
        self.stack = Stack(farm, settings=SETTINGS | own, moves_clock=False)
        taking, delivering = free_ports(2)
        self._ports: dict[Mode, int] = {"taking": taking, "delivering": delivering}
        self._names: dict[Mode, list[str]] = {
            mode: [f"{mode}{number}" for number in range(most_edges)] for mode in self._ports
        }
        self._running: list[str] = []
        self.recipient = ""

    def start(self) -> None:
        """Start the servers, set the customer up through the API, and stop all services again."""
        if self._set is not None:
            self._set.start()
        self.stack.start_all()
        customer = self.stack.customer()
        self.recipient = f"bench@{self.stack.domain(customer)}"
        self.stack.site(customer, self._sink_port)
        for name in tuple(self.stack.units):
            self.stack.stop(name)
        for mode, names in self._names.items():
            for name in names:
                # What takes only leaves delivery to others, of which none runs meanwhile.
                only = {"POSTERN_EDGE_DELIVERIES": "0"} if mode == "taking" else {}
                self.stack.add_edge(name, POSTERN_EDGE_PORT=str(self._ports[mode]), **only)

    def close(self) -> None:
        """End everything of its own."""
        self.stack.close()
        if self._set is not None:
            self._set.close()

    def port(self, mode: Mode) -> int:
        """Where the edges of that mode take mail."""
        return self._ports[mode]

    def run(self, mode: Mode, edges: int) -> bool:
        """Have that many edges of the mode run, and no others; whether that changed anything."""
        wanted = self._names[mode][:edges]
        if wanted == self._running:
            return False
        self._stop_all_but(wanted)
        for name in wanted:
            self.stack.units[name].launch()
        for name in wanted:
            self.stack.units[name].await_ready(START_SECONDS)
        self._running = wanted
        return True

    def rest(self) -> None:
        """Have no edge run."""
        self._stop_all_but([])
        self._running = []

    def _stop_all_but(self, wanted: Sequence[str]) -> None:
        ending = [self.stack.units[name] for name in self._running if name not in wanted]
        for unit in ending:
            unit.ask_to_stop()
        for unit in ending:
            unit.stop()

    def edges(self) -> list[Unit]:
        """The edges that run."""
        return [self.stack.units[name] for name in self._running]

    def databases(self) -> list[Unit]:
        """The members of mongod."""
        return [self._farm.existing("mongod")] if self._set is None else self._set.units

    def settle(self, mode: Mode) -> None:
        """Wait until what follows a 250 is done: events are published, and what was delivered is known to be."""
        query: dict[str, Any] = {"dispatch": "pending"}
        if mode == "delivering":
            query = {"$or": [query, {"state": "queued"}]}
        with self._database() as client:
            messages = client[self.stack.database][Collections.MESSAGES.value]
            eventually(lambda: messages.find_one(query, {"_id": 1}) is None, timeout=SETTLE_SECONDS)

    def empty(self) -> None:
        """Remove what was taken, so that every round meets the same queue."""
        with self._database() as client:
            database = client[self.stack.database]
            for name in (Collections.MESSAGES, Collections.BODIES):
                database[name.value].delete_many({})
            for kind in ("files", "chunks"):
                database.drop_collection(f"{BUCKET}.{kind}")

    @property
    def uri(self) -> str:
        """The database's address."""
        return self._farm.mongo_uri() if self._set is None else self._set.uri

    def _database(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.uri, w=1)

    def seconds(self) -> dict[str, float]:
        """Processor seconds used so far: by the edges that run, by their database, and by the broker."""
        return {
            "edge": unit_seconds(*self.edges()),
            "mongod": unit_seconds(*self.databases()),
            "broker": unit_seconds(self._farm.existing("rabbitmq")),
        }
