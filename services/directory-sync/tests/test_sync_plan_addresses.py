"""Addresses in a plan: who gets which, who keeps what, and what is left out and reported."""

import pytest

from postern_sync.rules.entries import Addition, StoredAlias, StoredDeleted
from tests.servers.sync_model import applied, box, entry, plan, rules, user


@pytest.mark.spec("U4")
def test_case_5_and_6_two_unknown_entries_with_one_address_are_both_reported_and_the_rest_syncs():
    others = [entry(f"u{number}") for number in range(20)]
    found = plan([*others, entry("guid-1", "same"), entry("guid-2", "same")])
    assert len(found.of("add")) == 20
    pair = [skip for skip in found.skips if skip.reason == "duplicate_primary"]
    assert {(skip.name, skip.other, skip.address) for skip in pair} == {
        ("cn=guid-1", "cn=guid-2", "same@demo.test"),
        ("cn=guid-2", "cn=guid-1", "same@demo.test"),
    }


@pytest.mark.spec("U4")
def test_a_second_entry_with_a_users_address_changes_nothing_for_that_user():
    found = plan([entry("ann"), entry("twin", "ann")], [user("ann")])
    assert found.items == []
    assert found.reasons() == {"duplicate_primary": {"cn=twin"}}


@pytest.mark.spec("U4", "L2")
def test_case_12_the_local_part_alone_is_nobody():
    found = plan([entry("g1", "max.meier@demo.test"), entry("g2", "max.meier@other.test")])
    assert found.labels("add") == {"max.meier@demo.test", "max.meier@other.test"}


@pytest.mark.spec("L3")
def test_case_14_a_mail_attribute_that_differs_from_the_primary_is_an_alias_run_after_run():
    stored = [user("ann", "b", "a")]
    assert plan([entry("ann", "b", "a")], stored).items == []
    moved = plan([entry("ann", "a", "b")], stored)
    (item,) = moved.items
    assert (item.action, item.change) == ("update", {"email": "a@demo.test"})
    assert plan([entry("ann", "a", "b")], applied(stored, moved.items).values()).items == []


@pytest.mark.spec("L3", "S9")
def test_case_16_a_changed_address_updates_and_a_pending_deletion_is_called_off():
    flagged = user("ann", state="flagged", flag_reason="disabled", directory_state="disabled")
    found = plan([entry("ann", "ann.new")], [flagged])
    assert {item.action for item in found.items} == {"update", "drop_aliases", "unflag"}


@pytest.mark.spec("U4")
def test_case_17_and_22_another_spelling_is_the_same_user_and_is_shown_as_the_directory_has_it():
    found = plan([entry("ann", "Ann.Lee@Demo.test")], [user("ann", "ann.lee@demo.test")])
    (item,) = found.items
    assert (item.action, item.change, item.gained) == ("update", {"email": "Ann.Lee@demo.test"}, ())


@pytest.mark.spec("S2")
def test_case_20_emptied_addresses_take_the_aliases_off_and_leave_the_user():
    found = plan([entry("ann", "")], [user("ann", None, "a", "b")])
    (item,) = found.items
    assert (item.action, item.dropped) == ("drop_aliases", ("a@demo.test", "b@demo.test"))
    assert found.of("flag") == []


@pytest.mark.spec("U4")
def test_case_42_an_alias_that_is_anothers_primary_goes_to_the_primary_in_any_order():
    entries = [entry("ann", None, "bob"), entry("bob")]
    for order in (entries, entries[::-1]):
        found = plan(order, page=1)
        assert {item.label: item.change["gain"] for item in found.of("add")} == {
            "ann@demo.test": [],
            "bob@demo.test": [],
        }
        assert found.reasons() == {"alias_is_primary_of_another": {"cn=ann"}}
    holder = plan(entries, [user("ann", None, "bob")])
    assert holder.of("add")[0].label == "bob@demo.test"
    assert holder.of("update")[0].change == {"lose": ["bob@demo.test"]}
    assert holder.of("add")[0].group == holder.of("update")[0].group


@pytest.mark.spec("U4")
def test_an_alias_handed_over_is_one_transaction_and_no_removal():
    found = plan([entry("ann"), entry("bob", None, "sales")], [user("ann", None, "sales"), user("bob")])
    assert {item.action for item in found.items} == {"update"}
    assert len({item.group for item in found.items}) == 1
    after = applied([user("ann", None, "sales"), user("bob")], found.items)
    assert [alias.mailbox.key for alias in after["usr_bob"].aliases] == ["sales@demo.test"]


@pytest.mark.spec("U4", "S15")
def test_an_address_that_goes_to_somebody_who_comes_back_is_one_transaction():
    kept = [StoredDeleted("usr_bob", "user", "bob", None, "bob@demo.test")]
    found = plan([entry("ann"), entry("bob", None, "sales")], [user("ann", None, "sales")], deleted=kept)
    assert {item.action for item in found.items} == {"update", "restore"}
    assert len({item.group for item in found.items}) == 1


@pytest.mark.spec("U4")
def test_two_who_swap_their_primary_addresses_are_one_transaction():
    stored = [user("a", "ann"), user("b", "bob")]
    found = plan([entry("a", "bob"), entry("b", "ann")], stored)
    assert len({item.group for item in found.items}) == 1
    after = applied(stored, found.items)
    assert (after["usr_a"].primary.key, after["usr_b"].primary.key) == ("bob@demo.test", "ann@demo.test")


@pytest.mark.spec("U4", "S18")
def test_only_those_who_hand_addresses_over_are_one_transaction():
    stored = [user(f"u{number:04d}", None, f"alias{number:04d}") for number in range(5000)]
    entries = [entry(f"u{number:04d}", None, f"alias{number:04d}", fields={"mobile": "1"}) for number in range(5, 5000)]
    # u0000's alias goes to u0001, whose own goes to u0002; u0003 and u0004 swap their primary addresses.
    entries += [
        entry("u0000", fields={"mobile": "1"}),
        entry("u0001", None, "alias0000"),
        entry("u0002", None, "alias0001", "alias0002"),
        entry("u0003", "u0004", "alias0003"),
        entry("u0004", "u0003", "alias0004"),
    ]
    together: dict[int, set[str]] = {}
    for item in plan(entries, stored, page=500).items:
        together.setdefault(item.group, set()).add(item.entry_id or "")
    sharing = sorted(sorted(ids) for ids in together.values() if len(ids) > 1)
    assert sharing == [["u0000", "u0001", "u0002"], ["u0003", "u0004"]]
    assert len(together) == 4995 + 2


@pytest.mark.spec("U4")
def test_an_address_of_a_missing_user_stays_with_them():
    found = plan([entry("bob", None, "ann")], [user("ann"), user("bob")])
    assert found.labels("flag") == {"ann@demo.test"}
    assert found.of("update") == []
    assert found.reasons()["address_taken"] == {"cn=bob"}


@pytest.mark.spec("U4")
def test_an_address_added_by_hand_is_neither_taken_off_nor_handed_over():
    kept = user("ann", aliases=(StoredAlias(box("sales"), "manual"),))
    found = plan([entry("ann"), entry("bob", None, "sales")], [kept, user("bob")])
    assert found.items == []
    assert found.reasons() == {"address_taken": {"cn=bob"}}


@pytest.mark.spec("U4", "R4")
def test_an_address_of_another_customer_is_reported_and_what_conflicts_is_known():
    found = plan([entry("ann"), entry("b1", "bob"), entry("b2", "bob")], taken=["ann@demo.test"])
    assert found.of("add") == []
    assert found.reasons()["address_taken_elsewhere"] == {"cn=ann"}
    assert found.labels("know") == {"bob@demo.test"}
    again = plan([entry("b1", "bob"), entry("b2", "bob")], known=[("bob@demo.test", "duplicate_primary")])
    assert again.items == []
    solved = plan([entry("b1", "bob")], known=[("bob@demo.test", "duplicate_primary")])
    assert solved.labels("forget") == {"bob@demo.test"}


@pytest.mark.spec("T6")
def test_users_are_added_up_to_the_licences_and_the_rest_is_reported_and_known():
    found = plan([entry(f"u{number}") for number in range(5)], [user("u0")], rules(licences=3))
    assert len(found.of("add")) == 2
    assert len(found.reasons()["licence_limit"]) == 2
    assert len(found.of("know")) == 2


@pytest.mark.spec("E2")
@pytest.mark.parametrize(("removed", "reason"), [("soft", "soft_deleted"), ("hard", "hard_deleted")])
def test_what_the_provider_deleted_is_flagged_with_its_word(removed, reason):
    found = plan([entry("ann", removed=removed)], [user("ann")])
    assert (found.of("flag")[0].reason, found.of("flag")[0].change) == (reason, {"directory_state": reason})


@pytest.mark.spec("S16", "L2")
def test_a_rename_in_a_read_that_is_not_proven_whole_keeps_the_old_address():
    stored = [user("ann", None, "a"), user("bob", None, "sales")]
    entries = [entry("ann", "ann.lee"), entry("bob"), entry("cat", None, "sales")]
    part = rules(is_complete=False)
    found = plan(entries, stored, part)
    after = applied(stored, found.items)
    assert after["usr_ann"].primary.key == "ann.lee@demo.test"
    assert {alias.mailbox.key for alias in after["usr_ann"].aliases} == {"ann@demo.test", "a@demo.test"}
    assert found.of("drop_aliases") == []
    assert plan(entries, after.values(), part).items == []
    whole = plan(entries, after.values())
    assert [(item.label, item.dropped) for item in whole.items] == [
        ("ann.lee@demo.test", ("a@demo.test", "ann@demo.test"))
    ]


@pytest.mark.spec("S2")
def test_a_rival_for_a_new_primary_address_leaves_the_stored_one():
    stored = [user("ann"), user("hand", "boss", source="manual")]
    found = plan([entry("ann", "boss"), entry("new", "ann")], stored)
    after = applied(stored, found.items)
    assert after["usr_ann"].primary.key == "ann@demo.test"
    assert "usr_new_new" not in after


@pytest.mark.spec("S17", "L3")
def test_values_that_are_no_addresses_are_reported_and_cost_the_user_nothing_else():
    found = plan([entry("ann", faults=("smtp:not an address",)), entry("bob", faults=("x",))], [user("ann")])
    assert found.labels("add") == {"bob@demo.test"}
    told = {(skip.name, skip.detail) for skip in found.skips if skip.reason == "unusable_value"}
    assert told == {("cn=ann", "smtp:not an address"), ("cn=bob", "x")}


@pytest.mark.spec("S17", "L3")
@pytest.mark.parametrize("is_known", [False, True])
def test_who_has_no_address_is_told_with_what_stands_in_its_place(is_known):
    found = plan([entry("ann", "", faults=("ann at demo.test",))], [user("ann")] if is_known else [])
    assert [skip.detail for skip in found.skips if skip.reason == "no_address"] == ["ann at demo.test"]


@pytest.mark.spec("U4", "S16")
def test_a_long_chain_of_refused_addresses_leaves_everybody_their_own():
    count = 15
    stored = [user(f"u{number:02}", f"a{number:02}") for number in range(count)]
    stored.append(user("hand", f"a{count:02}", source="manual"))
    entries = [entry(f"u{number:02}", f"a{number + 1:02}") for number in range(count)]
    found = plan(entries, stored)
    after = applied(stored, found.items)
    assert {one.primary.key for one in after.values()} == {f"a{number:02}@demo.test" for number in range(count + 1)}
    assert plan(entries, after.values()).items == []


@pytest.mark.spec("S16")
def test_a_read_that_is_not_proven_whole_joins_nobody_with_an_identity_to_another_object():
    stored = [user("x", "bob", "b2")]
    found = plan([entry("y", "bob")], stored, rules(is_complete=False))
    assert found.items == []
    assert plan([entry("y", "bob")], stored).of("update")[0].change["external_id"] == "y"


@pytest.mark.spec("S12", "S14a")
@pytest.mark.parametrize(
    "mention",
    [
        entry("other", None, "extra"),
        entry("off", "extra", is_disabled=True),
        entry("ex", "extra@elsewhere.test", "extra"),
    ],
)
def test_1h_11_an_addition_stays_while_nobody_who_takes_part_has_its_address_as_their_own(mention):
    with_addition = rules(additions=(Addition(box("extra"), "Ex", "Tra"),))
    stored = list(applied([], plan([entry("ann")], [], with_addition).items).values())
    found = plan([entry("ann"), mention], stored, with_addition)
    assert found.of("flag") == []
    assert found.labels("drop_aliases") == set()
