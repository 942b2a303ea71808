"""`--part memory`: 200 sessions that send 25 MiB each at once, to one edge and to Postfix.

An edge holds bodies within a budget and stops reading where the store is slower than its clients, so its memory must
not grow with what is sent. The content is made on the fly and does not compress.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx2
from rich.console import Console
from rich.table import Table

from postern_local.services import Service
from tests.bench.gateway import Gateway
from tests.bench.generate import run
from tests.bench.peers import POSTFIX_RECIPIENT, Peers, Setting
from tests.bench.progress import Progress
from tests.bench.targets import verdict_below
from tests.bench.usage import MIB, Peaks, peak_bytes, resident_bytes, tree_share_bytes

SESSIONS: Final = 200
OCTETS: Final = 25 * MIB
LEAST_OCTETS: Final = 1024 * 1024 + 64 * 1024  # past what an edge holds before it streams
LIMIT: Final = 1024 * MIB
TIMEOUT_SECONDS: Final = 3600.0
DISK_FOLD: Final = 4  # of what is sent: the bodies, the journal, Postfix's queue, and room


@dataclass(frozen=True, slots=True)
class Row:
    """One server: how long it took, what became of the messages, and its peak memory in octets."""

    server: str
    octets: int
    seconds: float
    outcomes: Mapping[str, int]
    before: float
    peak: float
    held: float | None = None
    database: float | None = None


def measure(console: Console, peers: Peers, scale: float) -> list[Row]:
    """Both servers, one after the other; nothing where the disk has no room for it."""
    octets = max(LEAST_OCTETS, int(OCTETS * min(scale, 1.0)))
    progress = Progress(console, "memory", 2)
    wanted, free = DISK_FOLD * SESSIONS * octets, shutil.disk_usage(peers.directory).free
    if free < wanted:
        progress.say(f"left out: it wants {wanted / 2**30:.0f} GiB of disk, {free / 2**30:.0f} are free")
        return []
    rows = []
    for take in (_edge, _postfix):
        row = take(peers, octets)
        progress.step(f"{row.server}: {row.seconds:.0f} s, peak {row.peak / MIB:,.0f} MiB, {_said(row.outcomes)}")
        rows.append(row)
    return rows


def _edge(peers: Peers, octets: int) -> Row:
    gateway = next(iter(peers.gateways.values()))
    gateway.rest()  # a fresh process, whose peak is this load's
    gateway = peers.use("taking", Setting(1, next(iter(peers.gateways))))
    edge = gateway.edges()[0]
    assert edge.child is not None
    before = resident_bytes(edge.child.pid)
    databases = [unit.child.pid for unit in gateway.databases() if unit.child is not None]
    questions = {
        "held": lambda: _held_bytes(gateway),
        "database": lambda: float(sum(resident_bytes(pid) for pid in databases)),
    }
    with Peaks(questions, 0.2) as peaks:
        seconds, outcomes = _load(gateway.port("taking"), gateway.recipient, octets)
    peak = peak_bytes(edge.child.pid)
    gateway.empty()
    return Row(
        "Postern, one edge", octets, seconds, outcomes, before, peak, peaks.found["held"], peaks.found["database"]
    )


def _postfix(peers: Peers, octets: int) -> Row:
    for gateway in peers.gateways.values():
        gateway.rest()
    master = peers.postfix.master_pid
    before = tree_share_bytes(master)
    with Peaks({"share": lambda: float(tree_share_bytes(master))}, 1.0) as peaks:
        seconds, outcomes = _load(peers.postfix.holding_port, POSTFIX_RECIPIENT, octets)
    peers.postfix.empty_hold_queue()
    return Row("Postfix, all processes", octets, seconds, outcomes, before, peaks.found["share"])


def _load(port: int, recipient: str, octets: int) -> tuple[float, Mapping[str, int]]:
    found = run("large", TIMEOUT_SECONDS, port=port, recipient=recipient, octets=octets, sessions=SESSIONS)
    return found["seconds"], found["outcomes"]


def _held_bytes(gateway: Gateway) -> float:
    part = gateway.edges()[0].part
    assert isinstance(part, Service)
    try:
        text = httpx2.get(f"{part.ops_url}/metrics", timeout=5, trust_env=False).text
    except httpx2.HTTPError:  # it is busy; the next question comes soon
        return 0.0
    found = re.search(r"^postern_edge_held_bytes (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _said(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in outcomes.items())


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    found = Table(title=f"Memory while {SESSIONS} sessions send at once")
    found.add_column("server")
    for heading in ("MiB each", "seconds", "MiB/s", "outcome", "before", "peak MiB", "below 1 GiB", "held", "mongod"):
        found.add_column(heading, justify="right")
    for row in rows:
        ours = row.held is not None
        found.add_row(
            row.server,
            f"{row.octets / MIB:.1f}",
            f"{row.seconds:.0f}",
            f"{SESSIONS * row.octets / MIB / row.seconds:,.0f}",
            _said(row.outcomes),
            f"{row.before / MIB:,.0f}",
            f"{row.peak / MIB:,.0f}",
            verdict_below(row.peak, LIMIT) if ours else "",
            "" if row.held is None else f"{row.held / MIB:,.0f}",
            "" if row.database is None else f"{row.database / MIB:,.0f}",
        )
    found.caption = (
        "An edge's peak is what the kernel noted (VmHWM); Postfix's is the sum over its processes, shared pages once, "
        "looked at every second. Held: the edge's byte budget in use, by its metrics. mongod: resident, all members."
    )
    return found
