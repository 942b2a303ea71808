"""`--part commit`: how many messages a second MongoDB makes durable in group commits, without SMTP.

It is the ceiling of taking mail: where the mail part comes near to it, or does not grow with more edges as this does
not grow with more processes, MongoDB is the limit. By processes that commit, and members of the replica set.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench.peers import Peers
from tests.bench.progress import Progress
from tests.bench.usage import cores, generator_seconds, unit_seconds

OCTETS: Final = (4096, 65536)
SESSIONS: Final = 100  # of all processes together
SECONDS: Final = 10.0
LEAST_SECONDS: Final = 2.0
START_SECONDS: Final = 5.0  # for all processes to be ready to begin at one moment
GRACE_SECONDS: Final = 120.0


@dataclass(slots=True)
class Row:
    """Messages a second of each round, and processor seconds used meanwhile for 1,000 of them."""

    octets: int
    processes: int
    members: int
    rates: list[float] = field(default_factory=list)
    database: list[float] = field(default_factory=list)
    writers: list[float] = field(default_factory=list)


def measure(console: Console, peers: Peers, processes: Sequence[int], *, rounds: int, scale: float) -> list[Row]:
    """Every size, number of processes and replica set, in turn."""
    rows = [Row(octets, number, members) for octets in OCTETS for members in peers.gateways for number in processes]
    progress = Progress(console, "commit", len(rows) * rounds)
    for _ in range(rounds):
        for row in rows:
            _round(peers, row, max(LEAST_SECONDS, SECONDS * min(scale, 1.0)))
            progress.step(f"{_name(row)}: {row.rates[-1]:,.0f}/s")
    return rows


def _name(row: Row) -> str:
    return f"{row.octets // 1024} KiB, {row.processes} processes, {row.members} members"


def _round(peers: Peers, row: Row, seconds: float) -> None:
    gateway = peers.gateways[row.members]
    begin = time.time() + START_SECONDS
    settings = {
        "uri": gateway.uri,
        "database": gateway.stack.database,
        "sessions": max(1, SESSIONS // row.processes),
        "octets": row.octets,
        "seconds": seconds,
        "begin": begin,
    }
    running = [_start(settings) for _ in range(row.processes)]
    time.sleep(max(0.0, begin - time.time()))
    databases, writers = unit_seconds(*gateway.databases()), generator_seconds()
    rates = [_rate(process, seconds) for process in running]
    stored = sum(rates) * seconds / 1000
    row.rates.append(sum(rates))
    row.database.append((unit_seconds(*gateway.databases()) - databases) / stored)
    row.writers.append((generator_seconds() - writers) / stored)
    gateway.empty()


def _start(settings: dict[str, object]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.commit_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings))
    process.stdin.close()
    process.stdin = None
    return process


def _rate(process: subprocess.Popen[str], seconds: float) -> float:
    output, _ = process.communicate(timeout=START_SECONDS + seconds + GRACE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"a process that commits ended with status {process.returncode}")
    return float(json.loads(output.splitlines()[-1])["rate"])


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    found = Table(title="Messages made durable a second, without SMTP")
    headings = ("size", "processes", "members", "messages/s", "CPU s / 1,000: mongod", "writers", "mongod %")
    for heading in headings:
        found.add_column(heading, justify="right")
    for row in rows:
        rate = statistics.median(row.rates)
        database = statistics.fmean(row.database)
        found.add_row(
            f"{row.octets // 1024} KiB",
            str(row.processes),
            str(row.members),
            f"{rate:,.0f} ({min(row.rates):,.0f} to {max(row.rates):,.0f})",
            f"{database:.2f}",
            f"{statistics.fmean(row.writers):.2f}",
            f"{100 * database * rate / 1000 / cores():.0f}",
        )
    found.caption = (
        f"Median of {len(rows[0].rates)} rounds (least to most); {SESSIONS} sessions in all, majority and journal. The "
        "writers' processor time holds their start. mongod %: of all processors, all members."
    )
    return found
