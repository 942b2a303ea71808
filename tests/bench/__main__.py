"""`make bench`: how fast Postern takes and delivers mail, beside Postfix doing the same on this machine in the same
run.

Both peers make a message durable before they say 250 and get the same load from Postfix's `smtp-source`, in turn,
several rounds; the table shows the median of each and the ratio. `taking`: the message is held after 250 (Postfix's
hold queue; edges that only take). `delivering`: from the first connection until the next hop (`smtp-sink`) has the
last message.

    python -m tests.bench --rounds 5 --scale 1.0 --edges 2

`--part directory` measures the synchronisation of directories instead; without it both are measured.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.bench import directory
from tests.bench.load import CASES, Case
from tests.bench.machine import describe_machine
from tests.bench.peers import Peers


def main() -> int:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each case and peer (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual count of messages (default 1.0)")
    parser.add_argument("--part", choices=("mail", "directory", "all"), default="all", help="what is measured")
    parser.add_argument("--edges", type=int, default=1, help="edge processes on one port (default 1)")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(describe_machine())
    if arguments.part in {"mail", "all"}:
        cases = [case for case in CASES if arguments.only in case.name]
        with Peers(console, arguments.edges) as peers:
            rows = [_measure(console, peers, case, arguments.rounds, arguments.scale) for case in cases]
        console.print(_table(rows, arguments.rounds, arguments.edges))
    if arguments.part in {"directory", "all"}:
        console.print(directory.table(directory.measure(console, arguments.scale)))
    return 0


@dataclass(frozen=True, slots=True)
class Row:
    """What a case came to: messages a second of both, and processor seconds for 1,000 messages by whom."""

    case: Case
    ours: list[float]
    theirs: list[float]
    seconds: dict[str, float]


def _measure(console: Console, peers: Peers, case: Case, rounds: int, scale: float) -> Row:
    """Interleaved rounds of one case."""
    peers.use(case.mode)
    count = max(100, int(case.messages * scale))
    row = Row(case, [], [], {})
    before = peers.processor_seconds()
    for number in range(1, rounds + 1):
        row.ours.append(peers.postern(case, count))
        row.theirs.append(peers.postfix(case, count))
        console.print(f"{case.name}: round {number}: Postern {row.ours[-1]:,.0f}/s, Postfix {row.theirs[-1]:,.0f}/s")
    after = peers.processor_seconds()
    row.seconds.update({name: (after[name] - before[name]) / (count * rounds) * 1000 for name in after})
    return row


def _table(rows: list[Row], rounds: int, edges: int) -> Table:
    table = Table(title=f"Messages a second, medians of {rounds} interleaved rounds (least to most)")
    table.add_column("case")
    for heading in ("Postern", "", "Postfix", "", "ratio", "CPU s / 1,000: edge", "mongod", "Postfix"):
        table.add_column(heading, justify="right")
    for row in rows:
        mine, peer = statistics.median(row.ours), statistics.median(row.theirs)
        table.add_row(
            row.case.name,
            f"{mine:,.0f}",
            f"({min(row.ours):,.0f} to {max(row.ours):,.0f})",
            f"{peer:,.0f}",
            f"({min(row.theirs):,.0f} to {max(row.theirs):,.0f})",
            f"{mine / peer:.2f}",
            *(f"{row.seconds[name]:.2f}" for name in ("edge", "mongod", "postfix")),
        )
    table.caption = (
        f"Edge processes: {edges}. One-member replica set. The processor times hold what follows the 250, too."
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
