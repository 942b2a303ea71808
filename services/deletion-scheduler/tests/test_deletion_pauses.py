"""What makes a due deletion wait, and what a delay comes to: rules that all services share."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_common.deletions import NOTICE, due_by_delay, pause

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - made aware


def flagged(reason="absent", at=NOW - 8 * 24 * HOUR):
    return {"flag_reason": reason, "flagged_at": at}


def directory(read_ago=HOUR, **fields):
    last_good = None if read_ago is None else {"at": NOW - read_ago}
    return {"enabled": True, "frozen": False, "interval_hours": 6, "last_good": last_good} | fields


@pytest.mark.spec("S16")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (None, None),
        (directory(), None),
        (directory(12 * HOUR), None),
        (directory(12.1 * HOUR), "directory_unread"),
        (directory(None), "directory_unread"),
        (directory(interval_hours=168, read_ago=9 * 24 * HOUR), "awaiting_run"),
        (directory(updated_at=NOW - 2 * HOUR), None),
        (directory(updated_at=NOW - HOUR / 2), "awaiting_run"),
        (directory(rules_changed_at=NOW - 2 * HOUR), None),
        (directory(rules_changed_at=NOW - HOUR / 2), "awaiting_run"),
        (directory(enabled=False, read_ago=None), None),
        (directory(enabled=False, frozen=True), "frozen"),
        (directory(frozen=True), "frozen"),
    ],
)
def test_a_user_whom_a_run_flagged_goes_only_while_the_truth_is_known(settings, expected):
    assert pause(flagged(), settings, NOW) == expected


@pytest.mark.spec("S16")
@pytest.mark.parametrize("settings", [directory(None), directory(enabled=False, frozen=True)])
def test_a_user_flagged_by_hand_is_not_concerned(settings):
    assert pause(flagged("by hand"), settings, NOW) is None


@pytest.mark.spec("S9", "S14a")
@given(moments, moments, st.sampled_from([7, 14, 30]))
def test_1h_8_no_change_of_the_delay_lets_anybody_go_within_a_day_or_before_the_delay(flagged_at, changed_at, days):
    due_at = due_by_delay(flagged_at, days, changed_at)
    assert due_at >= changed_at + NOTICE
    assert due_at >= flagged_at + timedelta(days=days)
    assert due_by_delay(flagged_at, None, changed_at) is None
