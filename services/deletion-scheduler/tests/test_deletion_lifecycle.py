"""When a flagged user goes, and what is kept for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_common.documents import UserState
from postern_deletion.rules import lifecycle

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC))


@pytest.mark.spec("X2")
def test_a_flagged_user_is_due_when_the_delay_has_ended():
    assert lifecycle.is_due(UserState.FLAGGED, NOW, NOW)
    assert not lifecycle.is_due(UserState.FLAGGED, NOW + timedelta(milliseconds=1), NOW)


@pytest.mark.spec("X3")
@given(moments)
def test_without_a_due_time_a_user_stays_flagged_for_ever(now):
    assert not lifecycle.is_due(UserState.FLAGGED, None, now)


@pytest.mark.spec("X2")
@given(moments, moments, st.sampled_from([state for state in UserState if state is not UserState.FLAGGED]))
def test_only_flagged_users_are_ever_due(due_at, now, state):
    assert not lifecycle.is_due(state, due_at, now)


def test_what_restoring_needs_is_kept_as_the_customer_says():
    assert lifecycle.purge_at(NOW, 90) == NOW + timedelta(days=90)
    assert lifecycle.purge_at(NOW, 0) == NOW
    assert lifecycle.purge_at(NOW, None) == NOW + timedelta(days=lifecycle.DEFAULT_KEPT_DAYS)
