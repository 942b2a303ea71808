"""`make bench`: how fast Postern is and what it needs, beside Postfix and Haraka on this machine in the same run.

Parts, each printed as soon as it is measured:
  mail       messages a second, taking and delivering, against the targets; who used the processors
  commit     messages a second that MongoDB makes durable without SMTP: the ceiling of taking
  latency    how long the 250 takes at half of the peak rate
  memory     what an edge needs while 200 sessions send 25 MiB each at once
  snapshot   what 1,000,000 recipients of 10, 1,000 and 100,000 customers cost an edge
  directory  the synchronisation of directories
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Final

from rich.console import Console

from tests.bench import commit, directory, latency, mail, memory, snapshot
from tests.bench.load import CASES
from tests.bench.machine import describe_machine
from tests.bench.peers import Peers, Setting
from tests.bench.usage import cores

WIDTH: Final = 200  # where the output is no terminal


def main() -> int:
    """Run the parts that are asked for."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # Postfix's own processes outlive us else
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(describe_machine())
    failed = 0
    for name, part in PARTS.items():
        if arguments.part not in {name, "all"}:
            continue
        try:
            part(console, arguments)
        except Exception:  # noqa: BLE001  the other parts have taken an hour, or will
            failed += 1
            console.print(f"[{name}] failed", markup=False)
            console.print_exception(max_frames=10)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all", help="what is measured (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual counts and sizes (default 1.0)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved measurements of each case (default 7)")
    parser.add_argument("--edges", type=_numbers, default="1,2,4", help="edge processes on one port (default 1,2,4)")
    parser.add_argument(
        "--members",
        type=_numbers,
        default="1,3",
        help="members of the replica set: 1, 3, or both; those after the first\nare measured with one edge a core",
    )
    parser.add_argument("--only", default="", help="cases of the mail part whose name holds this text")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError(text)
    return found


def _mail(console: Console, arguments: argparse.Namespace) -> None:
    cases = [case for case in CASES if arguments.only in case.name]
    chosen = mail.settings(arguments.edges, arguments.members, cores())
    with Peers(console, max(arguments.edges), arguments.members) as peers:
        peers.add_haraka()
        rows: list[mail.Row] = []
        try:
            rows.extend(mail.measure(console, peers, cases, chosen, rounds=arguments.rounds, scale=arguments.scale))
        finally:  # a case that fails leaves those before it to be shown
            console.print(mail.rates(rows, arguments.rounds, peers.no_haraka))
            console.print(mail.processors(rows))


def _commit(console: Console, arguments: argparse.Namespace) -> None:
    with Peers(console, members=arguments.members) as peers:
        rows = commit.measure(console, peers, arguments.edges, rounds=arguments.rounds, scale=arguments.scale)
    console.print(commit.table(rows))


def _latency(console: Console, arguments: argparse.Namespace) -> None:
    setting = Setting(cores())
    with Peers(console, setting.edges) as peers:
        console.print(latency.table(latency.measure(console, peers, setting, arguments.scale), setting))


def _memory(console: Console, arguments: argparse.Namespace) -> None:
    with Peers(console) as peers:
        console.print(memory.table(memory.measure(console, peers, arguments.scale)))


def _snapshot(console: Console, arguments: argparse.Namespace) -> None:
    rows = snapshot.measure(console, arguments.scale)
    console.print(snapshot.table(rows))
    console.print(snapshot.reach_table(rows))


def _directory(console: Console, arguments: argparse.Namespace) -> None:
    console.print(directory.table(directory.measure(console, arguments.scale)))


PARTS: Final[Mapping[str, Callable[[Console, argparse.Namespace], None]]] = {
    "mail": _mail,
    "commit": _commit,
    "latency": _latency,
    "memory": _memory,
    "snapshot": _snapshot,
    "directory": _directory,
}

if __name__ == "__main__":
    sys.exit(main())
