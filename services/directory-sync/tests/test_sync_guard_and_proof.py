"""How many removals pass, and when a read is proven whole."""

from datetime import UTC, datetime
from typing import Any

import pytest

from postern_sync.rules.guard import judge
from postern_sync.rules.plan import PlanCounts, PlanItem
from postern_sync.rules.proof import changed_parts, doubt_of, prove, scope_hash, scope_parts
from postern_sync.source import ReadReport

GUARD: Any = {
    "mode": "both",
    "max_count": 500,
    "max_percent": 5,
    "min_floor": 5,
    "max_aliases": 500,
    "max_members": 2000,
}
GOOD: Any = {
    "run_id": "run_1",
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "provider": "ldap",
    "scope_hash": "scope",
    "users": 40,
    "groups": 2,
    "referrals": 1,
    "invocation_id": "dc1",
    "usn": 100,
}


def _judge(users, flagged, **changes):
    return judge(PlanCounts(directory_users=users, flagged=flagged), GUARD | changes)


@pytest.mark.spec("S16")
@pytest.mark.parametrize(
    ("users", "flagged", "held"),
    [(40, 5, False), (40, 6, True), (1000, 50, False), (1000, 51, True), (100_000, 500, False), (100_000, 501, True)],
)
def test_flags_over_five_percent_or_five_hundred_are_held_and_five_always_pass(users, flagged, held):
    assert _judge(users, flagged).flags is held


@pytest.mark.spec("S16")
@pytest.mark.parametrize(
    ("mode", "flagged", "held"),
    [
        ("count", 500, False),
        ("count", 501, True),
        ("percent", 500, False),
        ("percent", 501, True),
        ("off", 10_000, False),
    ],
)
def test_the_guard_can_count_or_take_percent_or_be_off(mode, flagged, held):
    assert _judge(10_000, flagged, mode=mode).flags is held


@pytest.mark.spec("S16")
def test_case_24_the_verdict_says_how_many_and_how_many_may_be():
    assert _judge(40, 6).reasons == ("6 users would be flagged; 5 may be at once",)


@pytest.mark.spec("S16")
def test_aliases_and_members_have_limits_of_their_own():
    there = {"directory_users": 1000, "directory_aliases": 100_000, "directory_members": 100_000}
    verdict = judge(PlanCounts(flagged=1, aliases_dropped=501, members_removed=2000, **there), GUARD)
    assert (verdict.flags, verdict.aliases, verdict.members) == (False, True, False)
    drop = PlanItem(1, 1, "drop_aliases", "a@demo.test", destructive=True)
    flag = PlanItem(2, 2, "flag", "b@demo.test", destructive=True)
    add = PlanItem(3, 3, "add", "c@demo.test")
    assert [verdict.holds(item) for item in (drop, flag, add)] == [True, False, False]


@pytest.mark.spec("S16")
@pytest.mark.parametrize(("aliases", "members", "held"), [(5, 25, (False, False)), (6, 26, (True, True))])
def test_of_few_aliases_and_members_only_a_share_may_go(aliases, members, held):
    counts = PlanCounts(directory_aliases=100, directory_members=100, aliases_dropped=aliases, members_removed=members)
    verdict = judge(counts, GUARD)
    assert (verdict.aliases, verdict.members) == held
    assert not judge(counts, GUARD | {"mode": "count"}).reasons


@pytest.mark.spec("S16")
def test_a_verdict_names_the_limit_that_counts():
    counts = PlanCounts(directory_users=1000, aliases_dropped=6, members_removed=6)
    assert judge(counts, GUARD | {"max_aliases": 0, "max_members": 3}).reasons == (
        "6 aliases would be dropped; 5 may be at once",
        "6 members would be removed; 5 may be at once",
    )


def _prove(last_good=GOOD, doubt=None, asked=(), **changes):
    base: dict[str, Any] = {"users": 40, "groups": 2, "referrals": 1, "invocation_id": "dc1", "usn": 100}
    return prove(ReadReport(**(base | changes)), last_good, "ldap", "scope", doubt, asked)


@pytest.mark.spec("S16")
def test_a_read_like_the_last_good_one_is_proven():
    proof = _prove()
    assert (proof.is_complete, proof.holds) == (True, ())


@pytest.mark.spec("S16")
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"problems": ("size_limit: 500 entries",)}, "size_limit"),
        ({"base_readable": False}, "base_dn"),
        ({"users": 0}, "no_users"),
        ({"attribute_errors": 1}, "attributes"),
        ({"referrals": 2}, "referrals"),
        ({"invocation_id": "dc2"}, "other_server"),
        ({"usn": 99}, "server_behind"),
    ],
)
def test_each_doubt_alone_keeps_a_read_from_being_proven(changes, word):
    proof = _prove(**changes)
    assert not proof.is_complete
    assert proof.reasons[0].startswith(word)


@pytest.mark.spec("S16")
def test_another_domain_controller_is_believed_when_it_answers_again():
    assert not _prove(invocation_id="dc2", usn=5).is_complete
    again: Any = {"invocation_id": "dc2", "usn": 5, "referrals": 1}
    assert _prove(invocation_id="dc2", usn=6, doubt=again).is_complete
    assert not _prove(invocation_id="dc2", usn=4, doubt=again).is_complete
    assert not _prove(invocation_id="dc3", usn=9, doubt=again).is_complete


@pytest.mark.spec("S16")
def test_more_referrals_are_believed_when_they_are_found_again():
    once: Any = {"invocation_id": "dc1", "usn": 100, "referrals": 3}
    assert not _prove(referrals=3).is_complete
    assert _prove(referrals=3, doubt=once).is_complete
    assert not _prove(referrals=4, doubt=once).is_complete


@pytest.mark.spec("S16")
def test_only_a_doubt_that_stands_alone_is_remembered():
    def remembered(doubt=None, **changes):
        base: dict[str, Any] = {"users": 40, "groups": 2, "referrals": 1, "invocation_id": "dc1", "usn": 100}
        report = ReadReport(**(base | changes))
        return doubt_of(report, prove(report, GOOD, "ldap", "scope", doubt))

    assert remembered(invocation_id="dc2", usn=7) == {"invocation_id": "dc2", "usn": 7, "referrals": 1}
    assert remembered(referrals=2) is not None
    assert remembered(invocation_id="dc2", problems=("size_limit: 500",)) is None
    # What is believed the second time is kept for as long as the plan that stands on it waits.
    believed: Any = {"invocation_id": "dc2", "usn": 7, "referrals": 1}
    assert remembered(believed, invocation_id="dc2", usn=8) == {"invocation_id": "dc2", "usn": 8, "referrals": 1}


@pytest.mark.spec("S16")
def test_a_changed_question_is_proven_but_held():
    assert _prove(last_good=GOOD | {"scope_hash": "other"}).holds == ("filter",)
    assert _prove(last_good=GOOD | {"provider": "entra"}).holds == ("provider_switch",)
    assert _prove(last_good=None).holds == ("first_run",)


@pytest.mark.spec("S16", "S1")
def test_going_back_to_the_question_of_the_last_good_run_is_held_where_another_one_added_users_meanwhile():
    asked: Any = [{"provider": "entra", "scope_hash": "other"}, {"provider": "ldap", "scope_hash": "scope"}]
    assert _prove(asked=asked).holds == ("provider_switch",)
    assert _prove(asked=[asked[0] | {"provider": "ldap"}]).holds == ("filter",)
    assert _prove(asked=asked[1:]).holds == ()


@pytest.mark.spec("S16")
def test_parts_that_moved_to_another_server_are_believed_the_second_time_and_held():
    moved = _prove(referrals=2)
    assert (moved.is_complete, moved.reasons[0].partition(":")[0]) == (False, "referrals")
    again = _prove(referrals=2, doubt={"invocation_id": "dc1", "usn": 100, "referrals": 2})
    assert (again.is_complete, again.holds) == (True, ("referrals",))


@pytest.mark.spec("S16", "S12")
def test_the_scope_is_the_question_in_any_order():
    one = scope_hash({"base_dn": "dc=demo", "filter": ""}, [("user", "1"), ("alias", "a@demo.test")])
    two = scope_hash({"filter": "", "base_dn": "dc=demo"}, [("alias", "a@demo.test"), ("user", "1")])
    assert one == two
    assert one != scope_hash({"base_dn": "dc=demo", "filter": "(mail=*)"}, [("user", "1"), ("alias", "a@demo.test")])
    assert one != scope_hash({"base_dn": "dc=demo", "filter": ""}, [("user", "1")])


@pytest.mark.spec("S16")
def test_what_has_changed_of_the_question_is_told_by_name():
    def asked(question: Any, *exceptions: tuple[str, str]) -> Any:
        parts = scope_parts(question, exceptions)
        return {"provider": "ldap", "scope_hash": scope_hash(question, exceptions), "scope_parts": parts}

    before = asked({"host": "a", "user_filter": ""}, ("user", "1"))

    def changed(now: Any, *since: Any, last_good: Any = before) -> tuple[str, ...]:
        return changed_parts(GOOD | last_good, since, now["scope_hash"], now["scope_parts"])

    assert changed(before) == ()
    assert changed(asked({"host": "a", "user_filter": "(mail=*)"}, ("user", "1"))) == ("user_filter",)
    other = asked({"host": "b", "user_filter": "", "place": "x"})
    assert changed(other) == ("exceptions", "host", "place")
    # On the way back, what a run asked between.
    assert changed(before, other) == ("exceptions", "host", "place")
    # A record from before the names were kept tells nothing.
    assert changed(other, last_good={"provider": "ldap", "scope_hash": "older"}) == ()
