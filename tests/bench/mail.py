"""`--part mail`: messages a second, taking and delivering, beside Postfix and (taking only) Haraka in the same run.

Each round measures every peer once, Postern in every setting: edge processes on one port, and members of the replica
set. The ratio to Postfix is that of one round's two rates, so that a machine whose speed changes slowly does not
change it; the table has its median and spread, and what is asked for.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench.load import Case
from tests.bench.peers import Peers, Sample, Setting
from tests.bench.progress import Progress
from tests.bench.targets import target, verdict
from tests.bench.usage import cores

LEAST_MESSAGES: Final = 100


@dataclass(frozen=True, slots=True)
class Row:
    """What a case came to, a sample of each round."""

    case: Case
    postern: dict[Setting, list[Sample]] = field(default_factory=dict)
    postfix: list[Sample] = field(default_factory=list)
    haraka: list[Sample] = field(default_factory=list)


def settings(edges: Sequence[int], members: Sequence[int], processors: int) -> list[Setting]:
    """What is measured: every number of edges on the first kind of replica set, the others with one edge a core.

    Where that number is not asked for, the others get the largest one.
    """
    curve = [Setting(number, members[0]) for number in edges]
    beside = processors if processors in edges else max(edges)
    return curve + [Setting(beside, number) for number in members[1:]]


def measure(
    console: Console, peers: Peers, cases: Sequence[Case], chosen: Sequence[Setting], *, rounds: int, scale: float
) -> Iterator[Row]:
    """All cases, with one line for each round; each row as soon as it is complete."""
    progress = Progress(console, "mail", len(cases) * rounds)
    for case in cases:
        row = Row(case, {setting: [] for setting in chosen})
        count = max(LEAST_MESSAGES, int(case.messages * scale))
        for _ in range(rounds):
            progress.step(f"{case.name}: {_round(peers, row, count)}")
        yield row


def _round(peers: Peers, row: Row, count: int) -> str:
    said = []
    for setting, samples in row.postern.items():
        samples.append(peers.measure_postern(row.case, count, setting))
        said.append(f"Postern ({_name(setting)}) {samples[-1].rate:,.0f}/s")
    row.postfix.append(peers.measure_postfix(row.case, count))
    said.append(f"Postfix {row.postfix[-1].rate:,.0f}/s")
    if (haraka := peers.measure_haraka(row.case, count)) is not None:
        row.haraka.append(haraka)
        said.append(f"Haraka {haraka.rate:,.0f}/s")
    return ", ".join(said)


def _name(setting: Setting) -> str:
    return f"{setting.edges}" if setting.members == 1 else f"{setting.edges}, {setting.members} members"


def rates(rows: Sequence[Row], rounds: int, no_haraka: str) -> Table:
    """Messages a second, and whether the targets are met."""
    found = Table(title=f"Messages a second: median of {rounds} interleaved rounds (least to most)")
    found.add_column("case")
    for heading in ("edges", "members", "Postern", "Postfix", "Haraka*", "x Postfix", "target", ""):
        found.add_column(heading, justify="right")
    for row in rows:
        for setting, samples in row.postern.items():
            ratios = [mine.rate / peer.rate for mine, peer in zip(samples, row.postfix, strict=True)]
            ratio = statistics.median(ratios)
            wanted = target(row.case, setting.edges, setting.members, cores())
            found.add_row(
                row.case.name,
                str(setting.edges),
                str(setting.members),
                _spread(samples),
                _spread(row.postfix),
                _haraka(row, no_haraka),
                f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                "" if wanted is None else f"{wanted:g}",
                verdict(ratio, wanted),
            )
    why = f"not here: {no_haraka}" if no_haraka else "2 workers, queue/discard, no other plugins"
    found.caption = (
        "Postern and Postfix keep a message durably before their 250. "
        f"*Haraka only discards, and is measured where mail is only taken; {why}."
    )
    return found


def _spread(samples: Sequence[Sample]) -> str:
    found = [sample.rate for sample in samples]
    return f"{statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})"


def _haraka(row: Row, no_haraka: str) -> str:
    if row.case.mode != "taking":
        return ""
    return "not here" if no_haraka else _spread(row.haraka)


_COSTS: Final = ("edge", "mongod", "broker")
_SHARES: Final = ("generator", "edge", "mongod", "broker", "next hop")


def processors(rows: Sequence[Row]) -> Table:
    """Who used the processors: what 1,000 messages cost, and the shares while Postern was under load."""
    found = Table(title="Processor seconds for 1,000 messages, and shares of the processors while Postern is loaded")
    for heading in ("case", "edges", "members"):
        found.add_column(heading, justify="left" if heading == "case" else "right")
    for heading in (*_COSTS, "Postfix", "Haraka", *(f"{name} %" for name in _SHARES), "others %", "idle %"):
        found.add_column(heading, justify="right")
    for row in rows:
        for setting, samples in row.postern.items():
            found.add_row(
                row.case.name,
                str(setting.edges),
                str(setting.members),
                *(f"{_mean(samples, name):.2f}" for name in _COSTS),
                f"{_mean(row.postfix, 'postfix'):.2f}",
                f"{_mean(row.haraka, 'haraka'):.2f}" if row.haraka else "",
                *(f"{share:.0f}" for share in shares(samples).values()),
            )
    found.caption = (
        "The seconds hold what follows the 250, too: events, and in delivering the delivery. mongod is all members "
        "together. Others: the kernel's own work, and whatever else runs here. Idle includes waiting for the disk."
    )
    return found


def _mean(samples: Sequence[Sample], name: str) -> float:
    return statistics.fmean(sample.cost[name] for sample in samples)


def shares(samples: Sequence[Sample]) -> Mapping[str, float]:
    """Percent of all processors by whom, over the load of all rounds; the last two are the others and idleness."""
    used = {name: sum(sample.loaded[name] for sample in samples) for name in (*_SHARES, "busy", "idle")}
    whole = max(used["busy"] + used["idle"], 1e-9)
    found = {name: 100 * used[name] / whole for name in _SHARES}
    found["others"] = max(0.0, 100 * used["busy"] / whole - sum(found.values()))
    found["idle"] = 100 * used["idle"] / whole
    return found
