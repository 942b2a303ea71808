"""What is asked of each case: how many times Postfix's rate, for one edge process and for one a core.

A case meets its target when the median of the ratios of its interleaved rounds is at or above it. Edges beside those
two numbers, and replica sets of several members, are measured and asked for nothing.
"""

from collections.abc import Mapping
from typing import Final

from tests.bench.load import Case

_ONE_AND_ALL_CORES: Final[Mapping[tuple[int, bool], tuple[float, float]]] = {
    (4096, False): (1.5, 2.0),
    (4096, True): (3.0, 5.0),
    (65536, False): (2.0, 2.5),
    (65536, True): (3.5, 4.5),
}
_DELIVERING: Final = (1.5, 2.0)


def target(case: Case, edges: int, members: int, cores: int) -> float | None:
    """The ratio to Postfix that is asked for, or None."""
    one, all_cores = _DELIVERING if case.mode == "delivering" else _ONE_AND_ALL_CORES[case.octets, case.reuse]
    if members != 1:
        return None
    if edges == 1:
        return one
    return all_cores if edges == cores else None


def verdict(ratio: float, wanted: float | None) -> str:
    """`met`, `missed`, or nothing where nothing is asked for."""
    if wanted is None:
        return ""
    return "met" if ratio >= wanted else "missed"


def verdict_below(value: float, limit: float) -> str:
    """`met` where the value stays below the limit, else `missed`."""
    return "met" if value < limit else "missed"
