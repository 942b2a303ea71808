"""The benchmark's own arithmetic: a wrong ratio, target or quantile would tell lies about everything else."""

import math

import pytest

from tests.bench.latency import plan, quantile
from tests.bench.load import CASES, Case
from tests.bench.mail import settings, shares
from tests.bench.peers import Sample, Setting
from tests.bench.targets import target, verdict, verdict_below

TWO_CORES = 2


@pytest.mark.parametrize(
    ("case", "one", "all_cores"),
    [
        (Case("taking", 20, 4096, False, 1), 1.5, 2.0),
        (Case("taking", 100, 4096, True, 1), 3.0, 5.0),
        (Case("taking", 100, 65536, False, 1), 2.0, 2.5),
        (Case("taking", 20, 65536, True, 1), 3.5, 4.5),
        (Case("delivering", 20, 65536, True, 1), 1.5, 2.0),
    ],
)
def test_each_case_has_a_target_for_one_edge_and_for_one_a_core(case, one, all_cores):
    assert target(case, 1, 1, TWO_CORES) == one
    assert target(case, 2, 1, TWO_CORES) == all_cores
    assert target(case, 4, 1, TWO_CORES) is None
    assert target(case, 2, 3, TWO_CORES) is None


def test_every_case_that_is_measured_has_a_target():
    assert all(target(case, 1, 1, TWO_CORES) for case in CASES)


def test_a_target_is_met_at_its_very_value_and_missed_below():
    assert [verdict(ratio, 1.5) for ratio in (1.49, 1.5, 1.51)] == ["missed", "met", "met"]
    assert verdict(9.0, None) == ""
    assert [verdict_below(value, 1024) for value in (1023, 1024)] == ["met", "missed"]


def test_quantiles_are_values_that_were_measured():
    values = [float(number) for number in range(1000, 0, -1)]
    assert [quantile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert quantile([7.0], 0.001) == 7.0
    assert math.isnan(quantile([], 0.5))


def test_each_peer_gets_half_of_its_peak_and_the_faster_one_the_other_ones_rate_too():
    assert plan(3000, 1000) == [("Postern", 1500), ("Postfix", 500), ("Postern", 500)]
    assert plan(800, 1000) == [("Postern", 400), ("Postfix", 500), ("Postfix", 400)]


def test_the_curve_is_measured_on_the_first_kind_of_set_and_others_with_one_edge_a_core():
    curve = [Setting(1, 1), Setting(2, 1), Setting(4, 1)]
    assert settings([1, 2, 4], [1, 3], TWO_CORES) == [*curve, Setting(2, 3)]
    assert settings([1], [1, 3], TWO_CORES) == [Setting(1, 1), Setting(1, 3)]
    assert settings([2], [3], TWO_CORES) == [Setting(2, 3)]


def test_shares_of_the_processors_add_up_to_all_of_them():
    loaded = {"generator": 1.0, "edge": 4.0, "mongod": 2.0, "broker": 0.5, "next hop": 0.0, "busy": 9.0, "idle": 1.0}
    found = shares([Sample(100.0, 5.0, loaded, {})] * 3)
    assert found == pytest.approx(
        {"generator": 10, "edge": 40, "mongod": 20, "broker": 5, "next hop": 0, "others": 15, "idle": 10}
    )
    assert sum(found.values()) == pytest.approx(100)
