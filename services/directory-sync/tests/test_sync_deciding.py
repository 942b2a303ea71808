"""What a batch of a plan writes, by what is stored when it is applied; and the times and scopes that runs go by."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_sync.applying.deciding import decide
from postern_sync.applying.writes import Found, due_time, in_order
from postern_sync.rules.proof import Proof
from postern_sync.schedule.credentials import warned_days
from postern_sync.schedule.loop import next_time
from postern_sync.scope import rules_of, scope_of

NOW = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)


def user(name, *aliases, version=1):
    return {
        "_id": name, "version": version, "email": f"{name}@x.test", "email_key": f"{name}@x.test", "source": "ldap",
        "aliases": [{"address": alias, "key": alias, "source": "ldap"} for alias in aliases],
    }  # fmt: skip


def item(seq, action, user_id=None, *, version=1, **change):
    return {
        "_id": f"run:{seq}", "seq": seq, "group": 1, "action": action, "user_id": user_id, "entry_id": f"id-{seq}",
        "label": "", "reason": "absent", "version": version, "change": change,
    }  # fmt: skip


def found(*users, **fields):
    rows = {entry["email_key"]: entry["_id"] for entry in users}
    rows |= {alias["key"]: entry["_id"] for entry in users for alias in entry["aliases"]}
    values: dict[str, Any] = {
        "customer_id": "cus_1", "provider": "ldap", "now": NOW, "due_at": NOW, "free": None, "deleted": {},
        "users": {entry["_id"]: entry for entry in users}, "owners": rows, "domains": {"x.test": "verified"},
        "joined": {}, "existing": set(), "members": set(), "sites": set(),
    }  # fmt: skip
    return Found(**(values | fields))


@pytest.mark.spec("S16")
def test_who_was_to_get_an_address_from_a_user_who_changed_fails_and_so_does_the_next_in_the_chain():
    there = found(user("a", "1@x.test"), user("b", "2@x.test"), user("c"), user("d"))
    group = [
        item(1, "update", "a", version=7, lose=["1@x.test"]),
        item(2, "update", "b", gain=["1@x.test"], lose=["2@x.test"]),
        item(3, "update", "c", gain=["2@x.test"]),
        item(4, "update", "d", mobile="1"),
    ]
    writes = decide([group], there)
    assert writes.states == {
        ("stale", None): ["run:1"],
        ("failed", "address_taken"): ["run:2", "run:3"],
        ("applied", None): ["run:4"],
    }
    assert (list(writes.updates), writes.addresses, writes.lost) == (["d"], [], {})


@pytest.mark.spec("S16")
def test_an_address_of_another_customer_is_taken_even_where_somebody_here_gives_it_up():
    there = found(user("a"), user("b"), owners={"1@x.test": ""})
    group = [item(1, "update", "a", lose=["1@x.test"]), item(2, "update", "b", gain=["1@x.test"])]
    assert decide([group], there).states == {("applied", None): ["run:1"], ("failed", "address_taken"): ["run:2"]}


@pytest.mark.spec("S16", "T6")
def test_an_address_whose_receiver_fails_stays_with_its_giver():
    there = found(user("a", "1@x.test", "2@x.test"), free=0)
    group = [
        item(1, "update", "a", mobile="1", lose=["1@x.test"]),
        item(2, "drop_aliases", "a", lose=["2@x.test"]),
        item(3, "add", email="3@x.test", gain=["1@x.test"], kind="user", source="ldap"),
    ]
    writes = decide([group], there)
    assert writes.states == {("applied", None): ["run:1", "run:2"], ("failed", "licence_limit"): ["run:3"]}
    assert writes.lost == {"a": ["2@x.test"]}
    assert [alias["key"] for alias in writes.updates["a"][0]["aliases"]] == ["1@x.test"]


def flagged(name, **fields):
    return user(name, version=2) | {"state": "flagged", "flag_reason": "absent"} | fields


def unflag(seq, name):
    return item(seq, "unflag", name) | {"reason": "present", "before": {"state": "flagged", "reason": "absent"}}


@pytest.mark.spec("S15", "S16")
def test_who_is_back_is_unflagged_whatever_else_cannot_be_changed():
    there = found(flagged("a"), flagged("b", version=1), user("c") | {"email_key": "1@x.test"})
    groups = [[item(1, "update", "a", mobile="1"), unflag(2, "a")]]
    groups += [[item(3, "update", "b", gain=["1@x.test"]), unflag(4, "b")]]
    writes = decide(groups, there)
    assert writes.states == {
        ("stale", None): ["run:1"], ("applied", None): ["run:2", "run:4"], ("failed", "address_taken"): ["run:3"]
    }  # fmt: skip
    assert {name: fields["state"] for name, (fields, _) in writes.updates.items()} == {"a": "active", "b": "active"}
    assert [event.name() for event in writes.events] == ["UserUnflagged", "UserUnflagged"]


@pytest.mark.spec("S15", "X1")
@pytest.mark.parametrize("now", [{"flag_reason": "by hand"}, {"state": "active", "flag_reason": None}])
def test_nobody_is_unflagged_whom_somebody_decided_on_meanwhile(now):
    writes = decide([[unflag(1, "a")]], found(flagged("a", **now)))
    assert (writes.states, writes.updates) == ({("stale", None): ["run:1"]}, {})


@pytest.mark.spec("T6")
@pytest.mark.parametrize(("was", "is_now", "left"), [("shared", "user", 0), ("user", "shared", 2)])
def test_a_change_of_kind_counts_for_those_who_are_added_after_it(was, is_now, left):
    there = found(user("a") | {"kind": was}, free=1)
    new = [[item(seq, "add", email=f"{seq}@x.test", kind="user", source="ldap")] for seq in (2, 3, 4)]
    writes = decide([[item(1, "update", "a", kind=is_now)], *new], there)
    assert len(writes.states["applied", None]) == 1 + left


@pytest.mark.spec("T6", "S7")
def test_a_list_is_added_where_more_licences_are_in_use_than_allowed():
    new = [item(1, "add", email="1@x.test", kind="list", source="ldap")]
    more = [item(2, "add", email="2@x.test", kind="user", source="ldap")]
    writes = decide([new, more], found(free=-1))
    assert writes.states == {("applied", None): ["run:1"], ("failed", "licence_limit"): ["run:2"]}


@pytest.mark.spec("T6")
@pytest.mark.parametrize(("taken", "expected"), [(True, "failed"), (False, "applied")])
def test_a_licence_that_a_user_was_to_give_back_and_did_not_is_given_to_nobody(taken, expected):
    there = found(user("a", "1@x.test") | {"kind": "user"}, free=0)
    there.owners.update({"2@x.test": ""} if taken else {})
    group = [
        item(1, "add", email="3@x.test", kind="user", source="ldap"),
        item(2, "update", "a", kind="shared", gain=["2@x.test"]),
    ]
    writes = decide([group], there)
    assert {ids[0]: state for (state, _), ids in writes.states.items() if "run:1" in ids} == {"run:1": expected}


@pytest.mark.spec("T6")
def test_licences_are_given_in_the_plans_order_and_lists_need_none():
    groups = [
        [item(1, "add", email="1@x.test", kind="user", source="ldap")],
        [item(2, "add", email="2@x.test", kind="list", source="ldap")],
        [item(3, "add", email="3@x.test", kind="user", source="ldap")],
    ]
    writes = decide(groups, found(free=1))
    assert writes.states == {("applied", None): ["run:1", "run:2"], ("failed", "licence_limit"): ["run:3"]}


@pytest.mark.spec("S2")
def test_all_items_of_a_user_make_one_change_and_one_event():
    there = found(user("a", "old@x.test", "kept@x.test"))
    group = [
        item(1, "update", "a", email="new@x.test", gain=["new@x.test"], mobile="1", absent_runs=0),
        item(2, "drop_aliases", "a", lose=["old@x.test"]),
    ]
    writes = decide([group], there)
    fields, unset = writes.updates["a"]
    assert (fields["email"], [alias["key"] for alias in fields["aliases"]]) == (
        "new@x.test",
        ["a@x.test", "kept@x.test"],
    )
    assert (writes.lost, writes.primaries, unset) == ({"a": ["old@x.test"]}, {"a": ("a@x.test", "new@x.test")}, {})
    [event] = writes.events
    assert event.model_dump()["fields"] == ["aliases", "email", "mobile"]


@pytest.mark.spec("S16")
def test_counting_absences_is_no_event():
    writes = decide([[item(1, "update", "a", absent_runs=1)]], found(user("a")))
    assert (writes.events, writes.updates["a"][0]["absent_runs"]) == ([], 1)


@pytest.mark.spec("S9")
@pytest.mark.parametrize("delay, days", [(None, None), (1, 7), (7, 7), (14, 14)])
def test_nobody_goes_sooner_than_seven_days_after_the_flag(delay, days):
    assert due_time(delay, NOW) == (None if days is None else NOW + timedelta(days=days))


@pytest.mark.spec("S8")
@pytest.mark.parametrize("hours", [6, 12, 24, 72, 168])
def test_the_next_run_is_never_later_than_the_interval_and_at_most_a_little_sooner(hours):
    latest, soonest = next_time(NOW, hours, 0.0), next_time(NOW, hours, 1.0)
    assert latest == NOW + timedelta(hours=hours)
    assert timedelta(0) < latest - soonest <= timedelta(minutes=15)


@pytest.mark.spec("E3")
@pytest.mark.parametrize(
    "days, warned", [(None, []), (31, []), (30, [30]), (7, [30, 7]), (0.5, [30, 7, 1]), (-3, [30, 7, 1])]
)
def test_days_for_which_a_warning_is_due(days, warned):
    assert warned_days(None if days is None else NOW + timedelta(days=days), NOW) == warned


def directory(**fields):
    ldap = {"preset": "ad", "base_dn": "dc=x", "user_filter": "", "group_filter": "", "attributes": {}, "host": "a"}
    values: dict[str, Any] = {
        "provider": "ldap", "ldap": ldap, "entra": None, "include_disabled": False, "include_public_folders": False,
        "include_hidden": True, "absent_runs": 1, "interval_hours": 6,
    }  # fmt: skip
    return values | fields


@pytest.mark.spec("S16")
def test_another_filter_base_host_account_option_or_exception_is_another_scope():
    same = scope_of(directory(), [])
    ldap = directory()["ldap"]
    exception = {"kind": "user", "external_id": "id-1", "key": None}
    others = [
        scope_of(directory(ldap=ldap | {"user_filter": "(mail=*)"}), []),
        scope_of(directory(ldap=ldap | {"base_dn": "ou=y,dc=x"}), []),
        scope_of(directory(include_hidden=False), []),
        scope_of(directory(), [exception]),
        scope_of(directory(ldap=ldap | {"host": "b"}), []),
        scope_of(directory(ldap=ldap | {"user": "cn=other"}), []),
    ]
    assert same not in others
    assert len(set(others)) == 6
    assert scope_of(directory(ldap=ldap | {"second_host": "b"}, interval_hours=24, absent_runs=3), []) == same


@pytest.mark.spec("S4", "S5", "S12", "T6")
def test_the_rules_of_a_run_come_from_the_settings():
    exceptions = [
        {"kind": "user", "external_id": "id-1", "key": None},
        {"kind": "alias", "external_id": None, "key": "a@x.test"},
    ]
    additions = [
        {"address": "New@X.test", "first_name": "N", "last_name": "W"},
        {"address": "none", "first_name": "", "last_name": ""},
    ]
    proof = Proof(("no_users",), ("filter",))
    domains = {"x.test": "verified", "y.test": "pending"}
    rules = rules_of({"allowed_users": 5}, directory(absent_runs=2), domains, exceptions, additions, proof)
    assert (rules.managed, rules.verified) == (frozenset(domains), frozenset({"x.test"}))
    assert (rules.excepted_ids, rules.excepted_keys) == (frozenset({"id-1"}), frozenset({"a@x.test"}))
    assert [addition.mailbox.key for addition in rules.additions] == ["new@x.test"]
    assert (rules.is_complete, rules.rescoped, rules.switched, rules.licences) == (False, True, False, 5)


@pytest.mark.spec("U4", "S16")
@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_primary_addresses_are_handed_on_in_an_order_in_which_none_has_two_owners(targets, away):
    """`away`: whoever takes an address that nobody had."""
    moves = {f"u{n}": (f"k{n}", f"new{n}" if n in away else f"k{to}") for n, to in enumerate(targets) if n != to}
    order, parked = in_order(moves)
    assert sorted(order) == sorted(moves)
    has = {f"u{n}": f"k{n}" for n in range(8)}
    has |= {user_id: f"~{user_id}" for user_id in parked}
    for user_id in order:
        has[user_id] = moves[user_id][1]
        assert len(set(has.values())) == len(has)
    assert len(parked) <= len(moves) // 2
