"""`--part snapshot`: 1,000,000 recipients in the edges' memory, spread over 10, 1,000 and 100,000 customers.

For each spread: what an edge weighs and how long it takes to be ready, what a look-up costs, how many messages a second
go to random recipients over SMTP, and how long a change takes to reach each of two edges. The three populations stand
side by side in one mongod and are measured in turn.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from postern_common.documents import Collections
from tests.bench import generate, lookup
from tests.bench.gateway import SETTINGS
from tests.bench.latency import quantile
from tests.bench.population import Population
from tests.bench.progress import Progress
from tests.bench.reach import Reach
from tests.bench.usage import MIB, peak_bytes, resident_bytes
from tests.servers.farm import Farm
from tests.servers.stack import Stack
from tests.servers.stored import connect
from tests.servers.waiting import eventually

CUSTOMERS: Final = (10, 1_000, 100_000)
RECIPIENTS: Final = 1_000_000
LOOKED_UP: Final = 100_000
EDGES: Final = ("first", "second")
ROUNDS: Final = 3
SESSIONS: Final = 50
MESSAGES: Final = 5000
OCTETS: Final = 4096
CHANGES: Final = 30
START_SECONDS: Final = 900.0
LOAD_SECONDS: Final = 300.0
# A change is asked for until it shows, which is many refused commands.
_EDGE: Final = {**SETTINGS, "POSTERN_EDGE_DELIVERIES": "0", "POSTERN_EDGE_MAX_ERRORS": "1000000"}


@dataclass(slots=True)
class Row:
    """What one spread came to; a value of each round in the lists."""

    population: Population
    ready_seconds: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    directory: list[Mapping[str, float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    reach: Mapping[str, list[float]] = field(default_factory=dict)


def measure(console: Console, scale: float) -> list[Row]:
    """All spreads; `scale` makes recipients and customers fewer."""
    farm = Farm()
    try:
        places = [_Place(farm, max(1, int(count * min(scale, 1.0))), scale) for count in CUSTOMERS]
        try:
            _Measurement(console, places, scale).run()
            return [place.row for place in places]
        finally:
            for place in places:
                place.stack.close()
    finally:
        farm.close()


class _Place:
    """One population in a database of its own, with its edges."""

    def __init__(self, farm: Farm, customers: int, scale: float) -> None:
        self.stack = Stack(farm, settings=_EDGE, moves_clock=False)
        for name in EDGES:
            self.stack.add_edge(name)
        recipients = max(customers, int(RECIPIENTS * min(scale, 1.0)))
        self.row = Row(Population(customers, recipients))
        self.uri = farm.mongo_uri()
        draw = random.Random(customers)
        numbers = draw.sample(range(recipients), min(LOOKED_UP, recipients))
        self.some = [self.row.population.recipient(number) for number in numbers]

    @property
    def name(self) -> str:
        """For the lines of progress."""
        return f"{self.row.population.customers:,} customers"

    def fill(self) -> None:
        """Write the population, and make the indexes."""
        client: MongoClient[dict[str, Any]] = MongoClient(self.uri, w=1)
        with client:
            self.row.population.fill(client, self.stack.database)
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        mongo = connect(self.uri, self.stack.database)
        await mongo.prepare()
        mongo.close()

    def start(self) -> None:
        """Start the first edge and note what that takes; stop it again."""
        unit = self.stack.units[EDGES[0]]
        began = time.perf_counter()
        unit.start(START_SECONDS)
        self.row.ready_seconds.append(time.perf_counter() - began)
        assert unit.child is not None
        self.row.resident.append(resident_bytes(unit.child.pid))
        self.row.peak.append(peak_bytes(unit.child.pid))
        unit.stop()

    def send(self, messages: int, seed: int) -> None:
        """Send to recipients at random, through the first edge; what was taken is removed."""
        _, port = self.stack.smtp(EDGES[0])
        settings = {"sessions": min(SESSIONS, messages), "messages": messages, "octets": OCTETS, "seed": seed}
        found = generate.run("closed", LOAD_SECONDS, port=port, recipients=self.some[:MESSAGES], **settings)
        self.row.rates.append(messages / found["seconds"])
        client: MongoClient[dict[str, Any]] = MongoClient(self.uri, w=1)
        with client:
            database = client[self.stack.database]
            taken = database[Collections.MESSAGES.value]
            eventually(lambda: taken.find_one({"dispatch": "pending"}, {"_id": 1}) is None, timeout=LOAD_SECONDS)
            for name in (Collections.MESSAGES, Collections.BODIES):
                database[name.value].delete_many({})

    def change(self, count: int) -> None:
        """Time changes at both edges."""
        ports = [self.stack.smtp(name)[1] for name in EDGES]
        reach = Reach(self.uri, self.stack.database, self.row.population, ports)
        self.row.reach = asyncio.run(reach.measure(count))


class _Measurement:
    """The steps, each for all places in turn before the next."""

    def __init__(self, console: Console, places: Sequence[_Place], scale: float) -> None:
        self._places = places
        self._scale = scale
        self._progress = Progress(console, "snapshot", len(places) * (3 * ROUNDS + 3))

    def run(self) -> None:
        """All of them."""
        for place in self._places:
            began = time.monotonic()
            place.fill()
            recipients = place.row.population.recipients
            self._told(place, f"{recipients:,} recipients written in {time.monotonic() - began:.0f} s")
        for _ in range(ROUNDS):
            for place in self._places:
                place.start()
                self._told(place, f"edge ready after {place.row.ready_seconds[-1]:.1f} s")
        for _ in range(ROUNDS):
            for place in self._places:
                found = lookup.run(place.uri, place.stack.database, place.some)
                place.row.directory.append(found)
                self._told(place, f"look-up {found['known']:.1f} us, directory read in {found['seconds']:.1f} s")
        self._with_edges()

    def _with_edges(self) -> None:
        for place in self._places:
            for name in EDGES:
                place.stack.units[name].start(START_SECONDS)
            self._told(place, "two edges run")
        messages = max(100, int(MESSAGES * self._scale))
        for number in range(ROUNDS):
            for place in self._places:
                place.send(messages, number)
                self._told(place, f"{place.row.rates[-1]:,.0f} messages a second")
        for place in self._places:
            place.change(max(3, int(CHANGES * self._scale)))
            self._told(place, "changes timed")

    def _told(self, place: _Place, text: str) -> None:
        self._progress.step(f"{place.name}: {text}")


def table(rows: Sequence[Row]) -> Table:
    """What the directory costs, by how many customers share the recipients."""
    found = Table(title="The directory in an edge's memory: medians of 3 rounds (least to most)")
    headings = ("customers", "recipients", "edge MiB", "edge's peak MiB", "directory MiB", "directory read in s")
    for heading in (
        *headings,
        "edge ready after s",
        "look-up us: known",
        "unknown user",
        "unknown domain",
        "messages/s",
    ):
        found.add_column(heading, justify="right")
    for row in rows:
        found.add_row(
            f"{row.population.customers:,}",
            f"{row.population.recipients:,}",
            f"{statistics.median(row.resident) / MIB:,.0f}",
            f"{max(row.peak) / MIB:,.0f}",
            f"{statistics.median(one['octets'] for one in row.directory) / MIB:,.0f}",
            f"{statistics.median(one['seconds'] for one in row.directory):.1f}",
            _spread(row.ready_seconds, ".1f"),
            *(_median(row, kind) for kind in ("known", "unknown_user", "unknown_domain")),
            _spread(row.rates, ",.0f"),
        )
    found.caption = (
        "Edge: the whole process when it is ready, and its greatest memory until then. Directory: what reading it adds "
        f"to a process that does nothing else. Messages of {OCTETS // 1024} KiB to random recipients, {SESSIONS} kept "
        "connections, one edge."
    )
    return found


def _median(row: Row, kind: str) -> str:
    return f"{statistics.median(one[kind] for one in row.directory):.1f}"


def _spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def reach_table(rows: Sequence[Row]) -> Table:
    """How long changes take to reach the edges."""
    found = Table(title="Milliseconds from the beginning of a write until an edge answers by it")
    for heading in ("customers", "change", "p50", "p99", "worst", "looked at"):
        found.add_column(heading, justify="left" if heading == "change" else "right")
    for row in rows:
        for kind, seconds in row.reach.items():
            found.add_row(
                f"{row.population.customers:,}",
                kind,
                *(f"{1000 * value:.1f}" for value in (quantile(seconds, 0.5), quantile(seconds, 0.99), max(seconds))),
                f"{len(seconds)}",
            )
    found.caption = f"At each of {len(EDGES)} edges, which hold all recipients and are otherwise idle."
    return found
