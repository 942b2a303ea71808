"""Ids, the clock and the masking of secrets in logs."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from postern_common.clock import Clock
from postern_common.ids import new_id
from postern_common.telemetry import MASK, mask_secrets, traced, traceparent


def test_ids_sort_by_time_and_are_version_7():
    ids = [new_id("usr") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids[0][4:16] <= ids[-1][4:16]
    assert all(one[16] == "7" and one[20] in "89ab" for one in ids)


def test_the_clock_moves_when_its_file_changes(tmp_path):
    file = tmp_path / "clock"
    clock = Clock(file)
    assert clock.offset == timedelta()
    file.write_text("259200")
    assert clock.offset == timedelta(hours=72)
    assert abs(clock.now() - datetime.now(UTC) - timedelta(hours=72)) < timedelta(seconds=5)
    file.write_text("-3600.5")
    assert clock.offset == timedelta(seconds=-3600.5)


@given(st.sampled_from(["password", "client_secret", "Authorization", "cookie", "token", "bind_password", "api_key"]))
def test_values_under_secret_names_are_masked_in_logs(name):
    assert mask_secrets(None, "info", {name: "hunter2", "event": "x"})[name] == MASK


def test_a_trace_is_continued_and_a_malformed_one_is_replaced():
    given_trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    with traced(given_trace) as current:
        assert current.split("-")[1] == "ab" * 16
        assert traceparent() == current
    with traced("00-zz-1-01") as current:
        assert len(current) == 55
    assert traceparent() is None
