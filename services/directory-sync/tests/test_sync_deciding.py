"""What a batch of a plan writes, by what is stored when it is applied; and the times and scopes that runs go by."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postern_sync.applying.deciding import decide
from postern_sync.applying.writes import Found, due_time
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
