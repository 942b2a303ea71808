"""`--part latency`: how long the 250 takes at half of the peak rate, at Postern and at Postfix.

The peak is measured first, in the same run, with the edges that the latency is then measured with. The load is open: a
message is due at a fixed rate whatever became of those before it, and what is late counts from the moment that it was
due. Each peer gets half of its own peak, and both the same rate: half of the smaller peak.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from tests.bench.generate import run
from tests.bench.load import Case
from tests.bench.peers import POSTFIX_RECIPIENT, Peers, Setting
from tests.bench.progress import Progress

CASES: Final = (Case("taking", 20, 4096, False, 4000), Case("taking", 20, 4096, True, 8000))
ROUNDS: Final = 3
SECONDS: Final = 30.0
LEAST_SECONDS: Final = 3.0
CONNECTIONS: Final = 100  # that are kept, where they are reused
LEAST_MESSAGES: Final = 200
QUANTILES: Final = (0.5, 0.99, 0.999)
GRACE_SECONDS: Final = 120.0  # for the replies to what was sent; past it the server is stuck

Peer = Literal["Postern", "Postfix"]


@dataclass(slots=True)
class Row:
    """One peer under one load; all times in seconds, over all rounds."""

    case: Case
    peer: Peer
    rate: float
    peak: float
    answered: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    behind: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of `values` do not exceed (nearest rank); NaN of nothing."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def plan(ours: float, theirs: float) -> list[tuple[Peer, float]]:
    """Who is measured at which rate, given the peaks: half of its own, and both at half of the smaller one."""
    wanted: list[tuple[Peer, float]] = [("Postern", ours / 2), ("Postfix", theirs / 2)]
    faster: Peer = "Postern" if ours > theirs else "Postfix"
    return [*wanted, (faster, min(ours, theirs) / 2)]


def measure(console: Console, peers: Peers, setting: Setting, scale: float) -> list[Row]:
    """Both loads: new connections, and kept ones."""
    progress = Progress(console, "latency", len(CASES) * (1 + 3 * ROUNDS))
    rows: list[Row] = []
    for case in CASES:
        count = max(LEAST_MESSAGES, int(case.messages * scale))
        peaks = {
            "Postern": statistics.median(peers.measure_postern(case, count, setting).rate for _ in range(ROUNDS)),
            "Postfix": statistics.median(peers.measure_postfix(case, count).rate for _ in range(ROUNDS)),
        }
        progress.step(", ".join(f"{name}'s peak {peak:,.0f}/s" for name, peak in peaks.items()))
        those = [Row(case, peer, rate, peaks[peer]) for peer, rate in plan(peaks["Postern"], peaks["Postfix"])]
        for _ in range(ROUNDS):
            for row in those:
                _round(peers, setting, row, max(LEAST_SECONDS, SECONDS * scale))
                progress.step(f"{row.peer} at {row.rate:,.0f}/s: 250 after {_milliseconds(row.answered)} ms so far")
        rows += those
    return rows


def _round(peers: Peers, setting: Setting, row: Row, seconds: float) -> None:
    gateway = peers.use(row.case.mode, setting)
    port = gateway.port(row.case.mode) if row.peer == "Postern" else peers.postfix.holding_port
    recipient = gateway.recipient if row.peer == "Postern" else POSTFIX_RECIPIENT
    found = run(
        "open",
        seconds + GRACE_SECONDS,
        port=port,
        recipient=recipient,
        octets=row.case.octets,
        reuse=row.case.reuse,
        connections=CONNECTIONS,
        rate=row.rate,
        seconds=seconds,
    )
    row.answered += found["answered"]
    row.whole += found["whole"]
    row.behind += found["behind"]
    row.failed.update(found["failed"])
    if row.peer == "Postern":
        gateway.settle(row.case.mode)
        gateway.empty()
    else:
        peers.postfix.empty_hold_queue()


def _milliseconds(values: Sequence[float]) -> str:
    return " / ".join(f"{1000 * quantile(values, share):.1f}" for share in QUANTILES)


def table(rows: Sequence[Row], setting: Setting) -> Table:
    """The rows as a table."""
    found = Table(title="Latency of the 250 in milliseconds: p50 / p99 / p99.9")
    for heading in ("4 KiB messages", "server"):
        found.add_column(heading)
    for heading in ("rate", "of its peak", "messages", "end of data to 250", "due to 250", "generator late", "failed"):
        found.add_column(heading, justify="right")
    for row in rows:
        found.add_row(
            "kept connections" if row.case.reuse else "one a connection",
            row.peer,
            f"{row.rate:,.0f}/s",
            f"{100 * row.rate / row.peak:.0f} %",
            f"{len(row.answered):,}",
            _milliseconds(row.answered),
            _milliseconds(row.whole),
            _milliseconds(row.behind),
            ", ".join(f"{count} x {what}" for what, count in row.failed.items()) or "0",
        )
    found.caption = (
        f"Edges: {setting.edges}. Due to 250 counts from the planned moment: with the connection, the dialogue, and "
        "the wait for a free connection. Where the generator itself was late, its processor was the limit."
    )
    return found
