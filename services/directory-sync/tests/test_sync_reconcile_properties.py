"""What holds of every plan, whatever the directory and the stored users are."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postern_sync.rules.entries import StoredAlias
from postern_sync.rules.plan import plan_hash
from tests.servers.sync_model import applied, box, entry, plan, rules, user

NAMES = [f"n{number}" for number in range(9)]
SOURCES = ["ldap", "ldap", "ldap", "manual", "csv"]
STATES = ["active", "active", "active", "flagged", "ignored", "deactivated"]
few = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def directories(draw):
    """Some entries, with addresses from a small stock, so that they collide."""
    entries = []
    for number in draw(st.lists(st.integers(0, 6), unique=True, max_size=6)):
        primary = draw(st.sampled_from([*NAMES, ""]))
        aliases = draw(st.lists(st.sampled_from([name for name in NAMES if name != primary]), unique=True, max_size=3))
        fields = {"first_name": draw(st.sampled_from(["", "Ann", "Bob"]))}
        kind = draw(st.sampled_from(["user", "user", "list", "shared"]))
        entries.append(
            entry(f"id{number}", primary, *aliases, fields=fields, kind=kind, is_disabled=draw(st.booleans()))
        )
    return entries


@st.composite
def stocks(draw):
    """Some stored users; each address has one owner, as the database makes sure."""
    free = list(draw(st.permutations(NAMES)))
    stored = []
    for number in draw(st.lists(st.integers(0, 8), unique=True, max_size=5)):
        if not free:
            break
        source = draw(st.sampled_from(SOURCES))
        primary = free.pop()
        count = draw(st.integers(0, min(2, len(free))))
        aliases = tuple(StoredAlias(box(free.pop()), draw(st.sampled_from([source, "manual"]))) for _ in range(count))
        state = draw(st.sampled_from(STATES))
        reason = draw(st.sampled_from(["absent", "disabled", "by hand"])) if state != "active" else None
        kind = draw(st.sampled_from(["user", "user", "list"]))
        one = user(f"id{number}", primary, source=source, kind=kind, state=state, flag_reason=reason)
        stored.append(replace(one, aliases=aliases))
    return stored


@pytest.mark.spec("S16")
@few
@given(directories(), stocks(), st.randoms(use_true_random=False), st.integers(1, 7))
def test_the_order_of_pages_makes_no_difference(entries, stored, random, page):
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert plan_hash(plan(entries, stored).items) == plan_hash(plan(shuffled, stored, page=page).items)


@pytest.mark.spec("S18", "U4")
@few
@given(directories(), stocks())
def test_after_a_plan_is_applied_there_is_nothing_left_to_do_and_no_address_has_two_owners(entries, stored):
    first = plan(entries, stored)
    known = [(item.label, item.reason or "") for item in first.of("know")]
    again = plan(entries, applied(stored, first.items).values(), known=known)
    assert [(item.action, item.label, item.change) for item in again.items] == []


@pytest.mark.spec("S16")
@few
@given(directories(), stocks())
def test_a_read_that_is_not_proven_whole_takes_nothing_from_anybody(entries, stored):
    found = plan(entries, stored, rules(is_complete=False))
    assert not any(item.destructive for item in found.items)
    assert {item.action for item in found.items} <= {"add", "update", "unflag", "know"}
    after = applied(stored, found.items)
    owned = {box.key for one in after.values() for box in (one.primary, *(alias.mailbox for alias in one.aliases))}
    for one in stored:
        assert {one.primary.key, *(alias.mailbox.key for alias in one.aliases)} <= owned
        assert (after[one.id].state == "flagged") <= (one.state == "flagged")


@pytest.mark.spec("S2", "S3")
@few
@given(directories(), stocks())
def test_a_run_flags_only_active_users_of_a_directory_and_deletes_nobody(entries, stored):
    by_id = {one.id: one for one in stored}
    found = plan(entries, stored)
    for item in found.of("flag"):
        assert by_id[item.user_id].source == "ldap"
        assert by_id[item.user_id].state == "active"
    assert set(by_id) <= set(applied(stored, found.items))


@pytest.mark.spec("S2")
@few
@given(directories(), stocks())
def test_addresses_given_by_hand_are_never_taken_away(entries, stored):
    after = applied(stored, plan(entries, stored).items)
    for one in stored:
        kept = {alias.mailbox.key for alias in one.aliases if alias.source == "manual"}
        if one.source != "ldap":
            kept.add(one.primary.key)
        has = {after[one.id].primary.key, *(alias.mailbox.key for alias in after[one.id].aliases)}
        assert kept <= has
