"""The 72 hours: growing intervals, the warning, the end."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_common.documents import DomainState
from postern_dns.rules import schedule
from postern_dns.rules.transition import Standing, decide

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
DEADLINE = START + schedule.WAIT
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.mark.spec("D3")
@pytest.mark.parametrize(
    "age, step",
    [
        (0 * HOUR, 1 * MINUTE),
        (5 * MINUTE, 2 * MINUTE),
        (20 * MINUTE, 5 * MINUTE),
        (30 * MINUTE, 15 * MINUTE),
        (23.9 * HOUR, 15 * MINUTE),
        (24 * HOUR, 30 * MINUTE),
        (47.9 * HOUR, 30 * MINUTE),
        (48 * HOUR, 60 * MINUTE),
        (71.9 * HOUR, 60 * MINUTE),
    ],
)
def test_the_intervals_grow(age, step):
    assert schedule.interval(age) == step


@pytest.mark.spec("D3")
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_looks_never_pass_the_deadline_and_end_on_it(chances):
    at, looks = START, 0
    while at < DEADLINE:
        following = schedule.next_check(START, DEADLINE, at, chance=chances[looks % len(chances)])
        step = schedule.interval(at - START)
        assert at < following <= DEADLINE
        assert following == DEADLINE or 0.9 * step <= following - at <= 1.1 * step
        at, looks = following, looks + 1
    assert at == DEADLINE
    assert 100 < looks < 250
    assert schedule.is_over(DEADLINE, at)


def test_a_cached_negative_answer_is_not_asked_again_before_it_ends():
    following = schedule.next_check(START, DEADLINE, START, chance=0.5, not_before=timedelta(minutes=30))
    assert following == START + timedelta(minutes=30)


@pytest.mark.spec("D7")
def test_owners_are_warned_once_in_the_last_24_hours():
    assert not schedule.is_warning_due(DEADLINE, None, DEADLINE - 25 * HOUR)
    assert schedule.is_warning_due(DEADLINE, None, DEADLINE - 24 * HOUR)
    assert not schedule.is_warning_due(DEADLINE, DEADLINE - 24 * HOUR, DEADLINE - 23 * HOUR)
    assert not schedule.is_warning_due(DEADLINE, None, DEADLINE)


def test_mail_records_are_looked_at_daily_and_sooner_after_a_failure():
    assert schedule.next_mail_look(START, told=True, chance=0.5) == START + 24 * HOUR
    assert schedule.next_mail_look(START, told=False, chance=0.5) == START + HOUR


def standing(state=DomainState.PENDING, started=START, requested_at=None):
    return Standing(state, START, DEADLINE, requested_at, None, started)


def change(outcome, *, is_held_elsewhere=False, **stood):
    now = stood.get("started", START) + timedelta(seconds=1)
    return decide(standing(**stood), outcome, now, is_held_elsewhere=is_held_elsewhere, chance=0.5, cached_for=None)


@pytest.mark.spec("D4")
@pytest.mark.parametrize("outcome", ["match", "mismatch", "absent", "cannot_tell"])
def test_no_look_up_takes_a_verified_domain_away(outcome):
    for moment in (START, DEADLINE, DEADLINE + 1000 * HOUR):
        found = change(outcome, state=DomainState.VERIFIED, started=moment)
        assert (found.state, found.next_check_at, found.warn) == (DomainState.VERIFIED, None, False)


@pytest.mark.spec("D3")
@pytest.mark.parametrize("state", [DomainState.PENDING, DomainState.EXPIRED])
def test_a_match_verifies_also_after_the_end(state):
    assert change("match", state=state, started=DEADLINE + 10 * HOUR).state is DomainState.VERIFIED
    held = change("match", state=state, is_held_elsewhere=True)
    assert held.state is state


@pytest.mark.spec("D3")
@pytest.mark.parametrize("outcome", ["mismatch", "absent", "cannot_tell"])
def test_a_pending_domain_expires_at_72_hours_and_not_before(outcome):
    assert change(outcome, started=DEADLINE - MINUTE).state is DomainState.PENDING
    expired = change(outcome, started=DEADLINE)
    assert (expired.state, expired.next_check_at) == (DomainState.EXPIRED, None)


@pytest.mark.spec("D2")
@pytest.mark.parametrize("state", list(DomainState))
def test_a_request_during_a_look_is_answered_by_another_look(state):
    found = change("absent", state=state, requested_at=START + timedelta(milliseconds=1))
    assert found.next_check_at == START + timedelta(seconds=1)
    answered = change("absent", state=state, requested_at=START)
    assert answered.next_check_at != START + timedelta(seconds=1)


def test_a_request_during_the_look_that_verifies_is_not_forgotten():
    found = change("match", requested_at=START + timedelta(milliseconds=1))
    assert (found.state, found.next_check_at) == (DomainState.VERIFIED, START + timedelta(seconds=1))
    assert change("match", requested_at=START).next_check_at is None
