"""From a directory and stored users to a plan: joining, addresses, flags, lists, and what is left out."""

from dataclasses import replace

import pytest

from postern_sync.rules.entries import Addition, StoredDeleted
from tests.servers.sync_model import applied, box, entry, plan, rules, user


@pytest.mark.spec("S2")
def test_first_run_adds_those_missing_updates_those_present_and_flags_the_rest():
    stored = [user("ann"), user("gone")]
    found = plan([entry("ann", fields={"first_name": "Ann"}), entry("bob", None, "b")], stored)
    assert found.labels("add") == {"bob@demo.test"}
    assert found.labels("update") == {"ann@demo.test"}
    assert found.of("update")[0].change == {"first_name": "Ann"}
    assert found.labels("flag") == {"gone@demo.test"}
    assert found.of("flag")[0].reason == "absent"
    assert found.of("add")[0].gained == ("bob@demo.test", "b@demo.test")


@pytest.mark.spec("S18")
def test_unchanged_directory_gives_no_items():
    entries = [entry("ann", None, "a", fields={"first_name": "Ann"}), entry("bob"), entry("all", kind="list")]
    stored = [user("ann", None, "a", fields={"first_name": "Ann"}), user("bob"), user("all", kind="list")]
    found = plan(entries, stored, members=[("all", "cn=ann")], stored_members=[("usr_all", "usr_ann", "ldap")])
    assert found.items == []
    assert found.counts.unchanged == 3


@pytest.mark.spec("S2", "S3")
@pytest.mark.parametrize("source", ["manual", "csv", "smtp"])
def test_users_entered_by_hand_are_supplemented_and_never_flagged(source):
    stored = [user("ann", source=source), user("gone", source=source), user("off", source=source)]
    entries = [
        entry("guid-1", "ann", "a.lee", fields={"mobile": "1"}),
        entry("guid-2", "off", is_disabled=True),
    ]
    found = plan(entries, stored)
    assert found.of("flag") == []
    (update,) = found.of("update")
    assert update.user_id == "usr_ann"
    assert update.change["mobile"] == "1"
    assert update.change["gain"] == ["a.lee@demo.test"]
    assert "source" not in update.change
    renamed = plan([replace(entries[0], primary=box("ann.lee"))], [user("ann", source=source, external_id="guid-1")])
    assert renamed.of("flag") == []
    assert "email" not in renamed.of("update")[0].change
    assert "ann.lee@demo.test" in renamed.of("update")[0].change["gain"]


@pytest.mark.spec("S3")
def test_what_was_typed_by_hand_is_not_blanked_by_a_directory_that_does_not_know_it():
    hand = user("ann", source="manual", fields={"mobile": "1", "notes": "x"})
    found = plan([entry("ann", fields={"mobile": "", "notes": "y"})], [hand])
    assert found.of("update")[0].change["notes"] == "y"
    assert "mobile" not in found.of("update")[0].change
    own = plan([entry("ann", fields={"mobile": ""})], [user("ann", fields={"mobile": "1"})])
    assert own.of("update")[0].change == {"mobile": ""}


@pytest.mark.spec("S4")
def test_a_primary_address_outside_the_verified_domains_adds_nobody_and_is_reported():
    found = plan([entry("ann", "ann@elsewhere.test", "ann@demo.test")])
    assert found.items == []
    assert found.reasons() == {"primary_domain_unmanaged": {"cn=ann"}}


@pytest.mark.spec("S4")
def test_a_user_whose_primary_leaves_the_domains_keeps_what_is_stored():
    found = plan([entry("ann", "ann@elsewhere.test")], [user("ann")])
    assert found.of("flag") == []
    assert found.items == []


@pytest.mark.spec("S5")
def test_secondary_addresses_outside_the_domains_are_left_out_and_counted():
    found = plan([entry("ann", None, "a@other.test", "a@elsewhere.test")])
    assert found.of("add")[0].change["gain"] == ["a@other.test"]
    assert found.reasons() == {"alias_domain_unmanaged": {"cn=ann"}}


@pytest.mark.spec("S7", "T6")
def test_lists_come_with_members_and_cost_no_licence():
    entries = [entry("ann"), entry("bob"), entry("all", kind="list"), entry("top", kind="list")]
    pairs = [("all", "cn=ann"), ("all", "cn=bob"), ("all", "cn=nobody"), ("top", "cn=all"), ("all", "cn=top")]
    found = plan(entries, [user("ann")], rules(licences=2), members=pairs)
    assert found.labels("add") == {"bob@demo.test", "all@demo.test", "top@demo.test"}
    added = {(item.entry_id, member) for item in found.of("add_members") for member in item.change["members"]}
    assert added == {("all", "usr_ann"), ("all", "entry:bob"), ("all", "entry:top"), ("top", "entry:all")}
    users = [item.group for item in found.of("add")]
    assert all(item.group > max(users) for item in found.of("add_members"))


@pytest.mark.spec("S7")
def test_members_of_other_sources_stay_and_those_gone_from_the_list_are_removed():
    entries = [entry("ann"), entry("bob"), entry("all", kind="list")]
    stored = [user("ann"), user("bob"), user("all", kind="list")]
    rows = [("usr_all", "usr_ann", "ldap"), ("usr_all", "usr_bob", "manual")]
    found = plan(entries, stored, stored_members=rows)
    (item,) = found.items
    assert (item.action, item.change["members"], item.destructive) == ("remove_members", ["usr_ann"], True)


@pytest.mark.spec("S15")
def test_a_missing_member_stays_in_the_list_while_flagged():
    entries = [entry("bob"), entry("all", kind="list")]
    stored = [user("ann"), user("bob"), user("all", kind="list")]
    found = plan(entries, stored, stored_members=[("usr_all", "usr_ann", "ldap")])
    assert found.of("remove_members") == []


@pytest.mark.spec("S10")
def test_disabled_accounts_are_left_out_and_flagged_once():
    found = plan([entry("ann", is_disabled=True), entry("new", is_disabled=True)], [user("ann")])
    (item,) = found.items
    assert (item.action, item.reason, item.change) == ("flag", "disabled", {"directory_state": "disabled"})
    flagged = user("ann", state="flagged", flag_reason="disabled", directory_state="disabled")
    assert plan([entry("ann", is_disabled=True)], [flagged]).items == []


@pytest.mark.spec("S10")
@pytest.mark.parametrize("kind", ["shared", "resource"])
def test_disabled_accounts_with_another_kind_of_mailbox_stay_without_licence(kind):
    found = plan([entry("room", is_disabled=True, kind=kind)], [user("room", kind=kind)])
    assert found.items == []
    converted = plan([entry("room", is_disabled=True, kind=kind)], [user("room")])
    assert converted.of("update")[0].change == {"kind": kind}
    assert plan([entry("room", kind=kind)], [], rules(licences=0)).labels("add") == {"room@demo.test"}


@pytest.mark.spec("S10")
def test_public_folders_come_only_where_asked_for():
    folder = entry("news", kind="public_folder")
    assert plan([folder]).items == []
    assert plan([folder], [], rules(include_public_folders=True)).labels("add") == {"news@demo.test"}


@pytest.mark.spec("S14a")
def test_1h_2_disabled_users_are_synced_where_asked_for_and_flagged_when_no_more():
    off = entry("ann", is_disabled=True)
    found = plan([off], [user("ann")], rules(include_disabled=True))
    assert found.of("flag") == []
    assert found.of("update")[0].change == {"directory_state": "disabled"}
    again = plan([off], [user("ann", directory_state="disabled")], rules())
    assert again.of("flag")[0].reason == "disabled"


@pytest.mark.spec("S14a", "S15")
@pytest.mark.parametrize("reason", ["absent", "disabled", "soft_deleted", "filter"])
def test_1h_5_a_user_who_comes_back_is_unflagged_with_everything_intact(reason):
    back = user("ann", None, "a", state="flagged", flag_reason=reason, directory_state="absent")
    found = plan([entry("ann", None, "a")], [back])
    assert [item.action for item in found.items] == ["update", "unflag"]
    assert found.of("update")[0].change == {"directory_state": "present"}


@pytest.mark.spec("X3", "S14a")
def test_1h_6_ignored_ends_when_the_user_reappears_and_deactivated_stays():
    ignored = user("ann", state="ignored", flag_reason="absent", directory_state="absent")
    deactivated = user("bob", state="deactivated", flag_reason="absent", directory_state="absent")
    found = plan([entry("ann"), entry("bob")], [ignored, deactivated])
    assert found.labels("unflag") == {"ann@demo.test"}
    assert {item.user_id for item in found.of("update")} == {"usr_ann", "usr_bob"}
    gone = plan([], [ignored, deactivated], rules())
    assert gone.items == []


@pytest.mark.spec("X3")
def test_a_flag_set_by_hand_is_not_called_off_by_a_run():
    found = plan([entry("ann")], [user("ann", state="flagged", flag_reason="by hand")])
    assert found.items == []


@pytest.mark.spec("S12", "S14a")
def test_1h_10_an_excepted_list_is_left_out_and_its_members_stay():
    entries = [entry("ann"), entry("all", kind="list")]
    found = plan(entries, [], rules(excepted_ids=frozenset({"all"})), members=[("all", "cn=ann")])
    assert found.labels("add") == {"ann@demo.test"}
    assert found.of("add_members") == []
    alias = plan([entry("ann", None, "a", "b")], [], rules(excepted_keys=frozenset({"a@demo.test"})))
    assert alias.of("add")[0].change["gain"] == ["b@demo.test"]


@pytest.mark.spec("S12")
def test_an_exception_for_a_user_flags_them_because_of_the_filter():
    found = plan([entry("ann")], [user("ann")], rules(excepted_ids=frozenset({"ann"})))
    assert found.of("flag")[0].reason == "filter"


@pytest.mark.spec("S12", "S14a")
def test_1h_11_an_addition_is_never_flagged_until_found_and_then_is_a_normal_user():
    added = Addition(box("extra"), "Ex", "Tra")
    with_addition = rules(additions=(added,))
    first = plan([entry("ann")], [user("ann")], with_addition)
    (item,) = first.of("add")
    assert (item.label, item.change["source"], item.change["first_name"]) == ("extra@demo.test", "ldap", "Ex")
    stored = list(applied([user("ann")], first.items).values())
    assert plan([entry("ann")], stored, with_addition).items == []
    found = plan([entry("ann"), entry("guid-9", "extra")], stored, with_addition)
    assert found.of("update")[0].change["external_id"] == "guid-9"
    joined = list(applied(stored, found.items).values())
    gone = plan([entry("ann")], joined, with_addition)
    assert [(item.action, item.label) for item in gone.items] == [("flag", "extra@demo.test")]


@pytest.mark.spec("S16")
def test_nothing_is_taken_away_without_proof_of_completeness():
    entries = [entry("ann", fields={"first_name": "Ann"}), entry("new"), entry("all", kind="list")]
    stored = [user("ann"), user("gone"), user("off"), user("all", kind="list")]
    rows = [("usr_all", "usr_ann", "ldap")]
    found = plan(entries, stored, rules(is_complete=False), stored_members=rows)
    assert {item.action for item in found.items} == {"add", "update"}
    assert not any(item.destructive for item in found.items)


@pytest.mark.spec("S16")
@pytest.mark.parametrize(
    ("changes", "reason"), [({"switched": True}, "provider_switch"), ({"rescoped": True}, "filter")]
)
def test_flags_tell_a_changed_question_from_an_absence(changes, reason):
    found = plan([entry("ann")], [user("ann"), user("gone")], rules(**changes))
    assert found.of("flag")[0].reason == reason


@pytest.mark.spec("S16")
def test_absence_counts_after_as_many_complete_runs_as_wanted():
    twice = rules(absent_runs=2)
    first = plan([entry("ann")], [user("ann"), user("gone")], twice)
    assert first.of("flag") == []
    assert first.of("update")[0].change == {"absent_runs": 1}
    second = plan([entry("ann")], [user("ann"), user("gone", absent_runs=1)], twice)
    assert second.labels("flag") == {"gone@demo.test"}
    back = plan([entry("gone")], [user("gone", absent_runs=1)], twice)
    assert back.of("update")[0].change == {"absent_runs": 0}


@pytest.mark.spec("L2")
def test_a_rename_is_an_update_that_keeps_the_old_address_where_the_directory_does():
    found = plan([entry("ann", "ann.lee", "ann")], [user("ann")])
    (item,) = found.items
    assert item.action == "update"
    assert item.change == {"email": "ann.lee@demo.test", "gain": ["ann.lee@demo.test"]}
    after = applied([user("ann")], found.items)["usr_ann"]
    assert after.primary.key == "ann.lee@demo.test"
    assert [alias.mailbox.key for alias in after.aliases] == ["ann@demo.test"]


@pytest.mark.spec("L2")
def test_a_rename_without_the_old_address_drops_it():
    found = plan([entry("ann", "ann.lee")], [user("ann")])
    assert [item.action for item in found.items] == ["update", "drop_aliases"]
    after = applied([user("ann")], found.items)["usr_ann"]
    assert (after.primary.key, after.aliases) == ("ann.lee@demo.test", ())


@pytest.mark.spec("L2")
def test_a_person_made_anew_with_the_same_address_stays_the_same_user():
    found = plan([entry("guid-new", "ann")], [user("guid-old", "ann")])
    (item,) = found.items
    assert (item.action, item.user_id, item.change["external_id"]) == ("update", "usr_guid-old", "guid-new")


@pytest.mark.spec("S1")
def test_a_plain_move_to_another_provider_flags_nobody():
    stored = [user("guid-1", "ann", immutable_id="abc="), user("guid-2", "bob")]
    entries = [
        entry("graph-1", "ann.lee", "ann", id_kind="graph_id", immutable_id="abc="),
        entry("graph-2", "bob", id_kind="graph_id"),
    ]
    found = plan(entries, stored, rules(source="entra", switched=True))
    assert found.of("flag") == []
    assert {item.change["source"] for item in found.of("update")} == {"entra"}


@pytest.mark.spec("S15", "S14a", "U6")
def test_1h_9_a_deleted_user_comes_back_under_the_old_id():
    kept = [
        StoredDeleted("usr_by_id", "user", "guid-1", None, "x@demo.test"),
        StoredDeleted("usr_by_immutable", "user", None, "abc=", "y@demo.test"),
        StoredDeleted("usr_by_address", "user", None, None, "cat@demo.test"),
    ]
    entries = [entry("guid-1", "ann"), entry("guid-2", "bob", immutable_id="abc="), entry("guid-3", "cat")]
    found = plan(entries, [], deleted=kept)
    assert {item.entry_id: item.user_id for item in found.of("restore")} == {
        "guid-1": "usr_by_id",
        "guid-2": "usr_by_immutable",
        "guid-3": "usr_by_address",
    }
