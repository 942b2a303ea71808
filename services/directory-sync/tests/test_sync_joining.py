"""Which stored user an object is where several could be it, and who of the new ones becomes a user."""

import time

import pytest

from postern_sync.planning.reconcile import reconcile
from postern_sync.rules.entries import StoredDeleted
from postern_sync.source import Cancelled
from postern_sync.workspace import Workspace
from tests.servers.sync_model import entry, plan, rules, user


@pytest.mark.spec("S2", "S15")
@pytest.mark.parametrize("gone", [{"is_disabled": True}, {"removed": "soft"}, {"removed": "hard"}])
@pytest.mark.parametrize("is_complete", [True, False])
def test_the_object_made_in_place_of_one_that_is_gone_is_the_user(gone, is_complete):
    entries = [entry("old", "ann", **gone), entry("new", "ann")]
    found = plan(entries, [user("old", "ann")], rules(is_complete=is_complete))
    assert (found.of("flag"), found.of("add")) == ([], [])
    [update] = found.of("update")
    assert (update.user_id, update.change["external_id"]) == ("usr_old", "new")


@pytest.mark.spec("S2", "E2")
def test_an_object_made_anew_for_the_same_person_on_premises_is_the_user():
    entries = [
        entry("old", "ann", immutable_id="abc=", removed="soft"),
        entry("new", "ann.lee", immutable_id="abc="),
    ]
    found = plan(entries, [user("old", "ann", immutable_id="abc=")])
    assert found.of("flag") == []
    assert found.of("update")[0].change["email"] == "ann.lee@demo.test"


@pytest.mark.spec("S2", "U4")
def test_of_two_new_objects_with_the_address_of_one_who_is_gone_none_is_the_user_and_nobody_is_flagged():
    found = plan([entry("b", "ann"), entry("c", "ann")], [user("a", "ann")])
    assert found.items == []
    assert found.reasons() == {"address_taken": {"cn=b", "cn=c"}}


@pytest.mark.spec("S15", "X1")
def test_a_deleted_user_goes_to_their_own_object_and_not_to_the_first_one_with_the_address():
    kept = [StoredDeleted("usr_ann", "user", "z", None, "ann@demo.test")]
    found = plan([entry("a", "ann"), entry("z", "ann.lee")], [], deleted=kept)
    assert {item.entry_id: item.user_id for item in found.of("restore")} == {"z": "usr_ann"}
    assert found.labels("add") == {"ann@demo.test"}


@pytest.mark.spec("S15", "X1")
def test_a_deleted_user_whose_own_object_is_there_is_not_given_to_another_one():
    kept = [StoredDeleted("usr_ann", "user", "z", None, "ann@demo.test")]
    found = plan([entry("a", "ann"), entry("z", "x", is_disabled=True)], [], deleted=kept)
    assert (found.labels("add"), found.of("restore")) == ({"ann@demo.test"}, [])


@pytest.mark.spec("S15", "X1")
def test_a_deleted_person_does_not_come_back_as_a_list():
    kept = [StoredDeleted("usr_all", "user", None, None, "all@demo.test")]
    found = plan([entry("a", "all", kind="list")], [], deleted=kept)
    assert (found.labels("add"), found.of("restore")) == ({"all@demo.test"}, [])


@pytest.mark.spec("T6")
def test_an_address_is_not_handed_to_somebody_for_whom_no_licence_is_left():
    stored = [user("ann", "ann", "help")]
    found = plan([entry("ann"), entry("bob", "bob", "help")], stored, rules(licences=1))
    assert (found.of("add"), found.of("update")) == ([], [])
    [drop] = found.of("drop_aliases")  # the directory has it no more as Ann's: a removal, which the guard counts
    assert (drop.destructive, drop.dropped) == (True, ("help@demo.test",))
    assert found.labels("know") == {"bob@demo.test", "help@demo.test"}


@pytest.mark.spec("T6")
@pytest.mark.parametrize(("was", "is_now", "added"), [("shared", "user", set()), ("user", "shared", {"bob@demo.test"})])
def test_a_mailbox_that_became_a_person_takes_a_licence_and_the_other_way_round(was, is_now, added):
    licences = 1
    found = plan([entry("ann", kind=is_now), entry("bob")], [user("ann", kind=was)], rules(licences=licences))
    assert found.of("update")[0].change == {"kind": is_now}
    assert found.labels("add") == added


@pytest.mark.spec("S7")
def test_where_two_people_have_the_name_that_a_group_uses_none_is_put_in_and_none_is_taken_out():
    entries = [entry("a", refs=("uid:jo",)), entry("b", refs=("uid:jo",)), entry("all", kind="list")]
    members = [("all", "uid:jo")]
    new = plan(entries, members=members)
    assert new.of("add_members") == []
    stored = [user("a"), user("b"), user("all", kind="list")]
    found = plan(entries, stored, members=members, stored_members=[("usr_all", "usr_a", "ldap")])
    assert found.items == []
    one_left = plan([entries[0], entries[2]], stored, members=members)
    assert one_left.of("add_members")[0].change["members"] == ["usr_a"]


@pytest.mark.spec("S17")
def test_a_run_that_is_called_off_stops_while_it_plans():
    stopped = False
    workspace = Workspace(is_cancelled=lambda: stopped)
    workspace.put([entry("ann")])
    stopped = True
    with pytest.raises(Cancelled):
        reconcile(workspace, rules())
    workspace.close()


@pytest.mark.spec("S18", "E2")
def test_a_directory_that_gives_everybody_the_same_immutable_identity_is_planned_by_address_in_time():
    names = [f"{number:05d}" for number in range(10_000)]
    entries = [entry(f"new{name}", name, immutable_id="same") for name in names]
    stored = [user(name, immutable_id="same") for name in names[:5000]]
    kept = [StoredDeleted(f"usr_{name}", "user", None, "same", f"{name}@demo.test") for name in names[5000:]]
    began = time.process_time()
    found = plan(entries, stored, deleted=kept, page=1000)
    assert time.process_time() - began < 10  # by pairs it would be 100 million
    assert (len(found.of("update")), len(found.of("restore")), len(found.items)) == (5000, 5000, 10_000)
