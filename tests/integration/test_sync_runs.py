"""Runs of directory synchronisation on a real database: what becomes of users, and of the run's record."""

import pytest

from postern_common.documents import Collections
from postern_sync.source import SourceFailed
from tests.servers.sync_source import DIRECTORIES, entry, people, story  # noqa: F401

KNOWN = Collections.KNOWN_ADDRESSES


@pytest.mark.spec("S2", "S17")
async def test_the_first_run_adds_everybody_and_says_so(story):
    story.source.entries = people(3, story.domain)
    run = await story.sync()
    assert (run["state"], run["phase"], run["counts"]["added"]) == ("completed", "ended", 3)
    users = await story.users()
    assert sorted(users) == [f"u{number:06d}@{story.domain}" for number in range(3)]
    assert await story.in_step()
    events = await story.stored.events()
    assert [name for name, _ in events] == ["SyncStarted", "UserAdded", "UserAdded", "UserAdded", "SyncCompleted"]


async def fingerprint(story, *but):
    """All collections but some, as they are."""
    found = {}
    for name in sorted(await story.mongo.db.list_collection_names()):
        if name not in but:
            found[name] = sorted(repr(document) for document in await story.mongo.db[name].find({}).to_list(None))
    return found


@pytest.mark.spec("S18")
async def test_an_unchanged_second_run_writes_its_record_and_the_ends_of_run_alone(story):
    story.source.entries = [*people(40, story.domain), entry("g", f"staff@{story.domain}", kind="list")]
    story.source.members = {"id-g": [f"id-{number:06d}" for number in range(40)]}
    await story.sync()
    customer, directory = await story.customer(), await story.directory()
    before = await fingerprint(story, "sync_runs", "outbox", "customers", "directories")
    admin = story.mongo.client.admin
    counts = (await admin.command("serverStatus"))["opcounters"]
    run = await story.sync()
    after = (await admin.command("serverStatus"))["opcounters"]
    assert (run["state"], run["counts"]["unchanged"], run["counts"]["added"]) == ("completed", 41, 0)
    assert await fingerprint(story, "sync_runs", "outbox", "customers", "directories") == before
    assert await story.items(run["_id"]) == []
    # The run asked for, and the two events of a run.
    assert after["insert"] - counts["insert"] == 3
    assert after["delete"] == counts["delete"]
    # Claim, begin, planning, plan, end of the run (twice), customer, directory; a beat of the lease now and then.
    assert after["update"] - counts["update"] <= 12
    for now, then, changed in (
        (await story.customer(), customer, {"last_good_sync_at"}),
        (await story.directory(), directory, {"last_run_id", "last_good"}),
    ):
        assert {name for name, value in now.items() if then.get(name) != value} == changed


@pytest.mark.spec("S16")
@pytest.mark.parametrize("vanished, state, flagged", [(6, "held", 0), (5, "completed", 5)])
async def test_of_40_users_6_that_vanish_are_held_and_5_are_flagged(story, vanished, state, flagged):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(40 - vanished, story.domain, vanished) + people(1, story.domain, 100)
    run = await story.sync()
    assert (run["state"], run["counts"]["flagged"], run["counts"]["added"]) == (state, flagged, 1)
    users = await story.users()
    assert sum(user["state"] == "flagged" for user in users.values()) == flagged
    assert f"u000100@{story.domain}" in users
    if state == "held":
        assert run["held"] == {"flag": 6}
        assert "6 users would be flagged; 5 may be at once" in run["reason"]
        [(_, subject)] = await story.stored.events("SyncHeld")
        assert subject == run["_id"]
        assert {item["state"] for item in await story.items(run["_id"], action="flag")} == {"held"}
    else:
        due = {user["due_at"] - user["flagged_at"] for user in users.values() if user["state"] == "flagged"}
        assert {delay.days for delay in due} == {7}
        assert {user["flag_reason"] for user in users.values() if user["state"] == "flagged"} == {"absent"}
        assert len(await story.stored.events("UserFlaggedForDeletion")) == 5


@pytest.mark.spec("S16")
async def test_a_preview_writes_its_record_and_its_plan_alone(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(30, story.domain, 10) + people(2, story.domain, 100)
    before = await fingerprint(story, "sync_runs", "plan_items")
    run = await story.sync("preview")
    assert await fingerprint(story, "sync_runs", "plan_items") == before
    assert (run["state"], run["plan_part"], run["held"]) == ("completed", "all", {"flag": 10})
    assert (run["counts"]["added"], run["counts"]["flagged"]) == (2, 10)
    assert len(await story.items(run["_id"])) == 12
    assert story.source.keeps == [True, False]


@pytest.mark.spec("S16")
@pytest.mark.parametrize("kind", ["sync", "preview"])
async def test_an_approved_plan_is_applied_with_what_was_held(story, kind):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(30, story.domain, 10)
    plan = await story.sync(kind)
    run = await story.sync("approval", approves=plan["_id"], approved_hash=plan["plan_hash"])
    assert (run["state"], run["counts"]["flagged"], run["held"]) == ("completed", 10, None)
    assert sum(user["state"] == "flagged" for user in (await story.users()).values()) == 10


@pytest.mark.spec("S16", "S17")
@pytest.mark.parametrize("moved", [False, True])
async def test_a_held_run_tells_what_became_of_its_plan(story, moved):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(30, story.domain, 10)
    first = await story.sync()
    preview = await story.sync("preview")
    assert (await story.run(first["_id"]))["state"] == "held"
    second = await story.sync()
    replaced = await story.run(first["_id"])
    assert (replaced["state"], replaced["superseded_by"]) == ("superseded", second["_id"])
    story.source.entries = people(29 if moved else 30, story.domain, 10)
    approval = await story.sync("approval", approves=second["_id"], approved_hash=second["plan_hash"])
    decided = await story.run(second["_id"])
    if moved:
        assert (decided["state"], decided["superseded_by"]) == ("superseded", approval["_id"])
    else:
        assert (decided["state"], decided["approved_by"]) == ("approved", approval["_id"])
    # What was replaced stays so, and a preview has nothing that is held.
    assert await story.run(first["_id"]) == replaced
    assert (await story.run(preview["_id"]))["state"] == "completed"


@pytest.mark.spec("S16")
async def test_a_plan_whose_approval_could_not_read_goes_on_waiting(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(30, story.domain, 10)
    plan = await story.sync()
    story.source.failure = SourceFailed("connect", "nobody answers")
    for kind in ("approval", "sync"):
        told = {"approves": plan["_id"], "approved_hash": plan["plan_hash"]} if kind == "approval" else {}
        assert (await story.sync(kind, **told))["state"] == "failed"
    assert await story.run(plan["_id"]) == plan


@pytest.mark.spec("S16")
async def test_the_approval_of_a_plan_is_refused_after_the_directory_moved(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(30, story.domain, 10)
    plan = await story.sync()
    story.source.entries = people(31, story.domain, 9)
    before = await fingerprint(story, "sync_runs", "outbox", "directories")
    run = await story.sync("approval", approves=plan["_id"], approved_hash=plan["plan_hash"])
    assert (run["state"], run["reason"]) == ("failed", "plan-stale")
    assert await fingerprint(story, "sync_runs", "outbox", "directories") == before


@pytest.mark.spec("S16")
async def test_no_approval_overrides_a_read_that_is_not_whole(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(30, story.domain, 10)
    plan = await story.sync()
    story.source.report = {"problems": ("connection_lost: after 30 entries",)}
    run = await story.sync("approval", approves=plan["_id"], approved_hash=plan["plan_hash"])
    assert run["state"] == "failed"
    assert "could not be read whole" in run["reason"]
    assert {user["state"] for user in (await story.users()).values()} == {"active"}


@pytest.mark.spec("S16")
async def test_an_incomplete_read_adds_and_updates_and_flags_nobody(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    good = (await story.directory())["last_good"]
    story.source.entries = people(3, story.domain) + people(1, story.domain, 100)
    story.source.report = {"problems": ("size_limit: after 4 entries",)}
    run = await story.sync()
    assert (run["state"], run["reason"]) == ("incomplete", "size_limit: after 4 entries")
    assert (run["counts"]["added"], run["counts"]["flagged"]) == (1, 0)
    assert len(await story.users(state="active")) == 41
    assert await story.stored.events("SyncIncomplete") == [("SyncIncomplete", run["_id"])]
    assert (await story.directory())["last_good"] == good


@pytest.mark.spec("S8")
async def test_a_directory_that_cannot_be_read_fails_the_run_and_changes_nobody(story):
    story.source.entries = people(5, story.domain)
    await story.sync()
    before = await story.users()
    story.source.failure = SourceFailed("bind", "the directory refused the user or the password")
    run = await story.sync()
    assert (run["state"], run["reason"]) == ("failed", "bind: the directory refused the user or the password")
    assert await story.users() == before
    assert await story.stored.events("SyncFailed") == [("SyncFailed", run["_id"])]


@pytest.mark.spec("S16")
async def test_a_changed_filter_holds_all_removals_until_they_are_approved(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    directory = await story.directory()
    await story.stored.set(DIRECTORIES, directory["_id"], ldap=directory["ldap"] | {"user_filter": "(mail=*)"})
    story.source.entries = people(39, story.domain, 1)
    await story.sync()
    run = await story.sync()
    assert (run["state"], run["held"], run["proof"]["holds"]) == ("held", {"flag": 1}, ["filter"])
    assert run["proof"]["changed"] == ["user_filter"]
    assert run["reason"].endswith("has changed since the last good run: user_filter")
    approved = await story.sync("approval", approves=run["_id"], approved_hash=run["plan_hash"])
    assert (approved["state"], approved["counts"]["flagged"]) == ("completed", 1)
    assert (await story.sync())["state"] == "completed"


@pytest.mark.spec("S1")
async def test_after_a_switch_of_the_provider_the_missing_are_held_as_conflicts(story):
    story.source.entries = people(40, story.domain)
    await story.sync()
    directory = await story.directory()
    entra = {"tenant": "t", "client_id": "c", "client_secret": None, "client_certificate": None}
    entra |= {"credential_expires_at": None, "cloud": "public", "user_filter": ""}
    await story.stored.set(DIRECTORIES, directory["_id"], provider="entra", entra=entra)
    story.source.entries = [
        entry(f"g{number}", f"u{number:06d}@{story.domain}", id_kind="graph_id") for number in range(39)
    ]
    run = await story.sync()
    assert (run["state"], run["held"], run["counts"]["updated"]) == ("held", {"flag": 1}, 39)
    assert [item["reason"] for item in await story.items(run["_id"], state="held")] == ["provider_switch"]
    users = await story.users()
    assert {user["source"] for user in users.values()} == {"entra", "ldap"}
    assert users[f"u000001@{story.domain}"]["external_id"] == "id-g1"


@pytest.mark.spec("S16")
@pytest.mark.parametrize("left, state", [(0, "incomplete"), (12, "held")])
async def test_case_3_a_slip_that_empties_the_result_deletes_nobody(story, left, state):
    story.source.entries = people(40, story.domain)
    await story.sync()
    story.source.entries = people(left, story.domain)
    run = await story.sync()
    assert (run["state"], len(await story.users(state="active"))) == (state, 40)
    if state == "held":
        assert "28 users would be flagged" in run["reason"]


@pytest.mark.spec("S10", "S15")
async def test_cases_9_and_16_who_is_disabled_is_flagged_once_and_stays_so_until_enabled_again(story):
    enabled, disabled = (entry("a", f"a@{story.domain}", is_disabled=value) for value in (False, True))
    others = people(5, story.domain)
    flagged_at = set()
    for found, state, directory_state in (
        (enabled, "active", "present"),
        (disabled, "flagged", "disabled"),
        (disabled, "flagged", "disabled"),
        (enabled, "active", "present"),
    ):
        story.source.entries = [*others, found]
        await story.sync()
        user = (await story.users())[f"a@{story.domain}"]
        assert (user["state"], user["directory_state"]) == (state, directory_state)
        flagged_at.add(user["flagged_at"])
    assert len(flagged_at) == 2
    assert [name for name, _ in await story.stored.events("UserFlaggedForDeletion", "UserUnflagged")] == [
        "UserFlaggedForDeletion",
        "UserUnflagged",
    ]


@pytest.mark.spec("S4")
async def test_cases_5_and_6_two_with_the_same_address_are_left_out_by_name_and_the_others_are_synced(story):
    same = f"same@{story.domain}"
    story.source.entries = [*people(1000, story.domain), entry("twin-a", same), entry("twin-b", same)]
    run = await story.sync()
    assert (run["state"], run["counts"]["added"], same in await story.users()) == ("completed", 1000, False)
    told = repr(run["skipped"])
    assert all(word in told for word in (same, "cn=twin-a", "cn=twin-b"))
    assert {row["key"] for row in await story.stored.all(KNOWN)} == {same}


@pytest.mark.spec("S2", "S3")
async def test_users_entered_by_hand_are_supplemented_and_never_flagged(story):
    hand, other = f"hand@{story.domain}", f"other@{story.domain}"
    await story.stored.user(hand, customer_id=story.customer_id, verified=True)
    await story.stored.user(other, customer_id=story.customer_id, verified=True)
    story.source.entries = [entry("h", hand, f"alias@{story.domain}", fields={"mobile": "7"}), *people(3, story.domain)]
    await story.sync()
    user = (await story.users())[hand]
    assert (user["source"], user["mobile"], [alias["source"] for alias in user["aliases"]]) == ("manual", "7", ["ldap"])
    story.source.entries = people(3, story.domain)
    run = await story.sync()
    users = await story.users()
    assert (users[hand]["state"], users[other]["state"], run["counts"]["flagged"]) == ("active", "active", 0)
    assert await story.in_step()


@pytest.mark.spec("S12")
async def test_1h_10_and_11_exceptions_stay_out_and_additions_take_part_until_the_directory_has_them(story):
    now = story.mongo.clock.now()
    common = {"customer_id": story.customer_id, "created_at": now, "created_by": "adm_1", "version": 1}
    extra = f"extra@{story.domain}"
    out = {"_id": "dsx_1", "kind": "user", "external_id": "id-000001", "key": None, "label": "u1"}
    alias = {"_id": "dsx_2", "kind": "alias", "external_id": None, "key": f"x@{story.domain}", "label": "x"}
    for exception in (out, alias):
        await story.stored.put(Collections.DIRECTORY_EXCEPTIONS, exception | common)
    addition = {"_id": "dis_1", "address": extra, "key": extra, "first_name": "Ex", "last_name": "Tra"}
    await story.stored.put(Collections.DIRECTORY_ADDITIONS, addition | common)
    story.source.entries = [*people(3, story.domain), entry("a", f"a@{story.domain}", f"x@{story.domain}")]
    await story.sync()
    users = await story.users()
    assert sorted(users) == sorted([f"a@{story.domain}", extra, *(f"u{n:06d}@{story.domain}" for n in (0, 2))])
    assert (users[extra]["source"], users[extra]["last_name"], users[f"a@{story.domain}"]["aliases"]) == (
        "ldap",
        "Tra",
        [],
    )
    again = await story.sync()
    assert (again["state"], again["counts"]["flagged"], await story.items(again["_id"])) == ("completed", 0, [])
    story.source.entries.append(entry("e", extra, fields={"last_name": "From the directory"}))
    await story.sync()
    user = (await story.users())[extra]
    assert (user["_id"], user["external_id"], user["last_name"]) == (users[extra]["_id"], "id-e", "From the directory")


@pytest.mark.spec("S16")
async def test_who_must_be_missed_twice_is_flagged_by_the_second_complete_run(story):
    await story.stored.set(DIRECTORIES, (await story.directory())["_id"], absent_runs=2)
    email = f"u000004@{story.domain}"
    story.source.entries = people(5, story.domain)
    await story.sync()
    story.source.entries = people(4, story.domain)
    await story.sync()
    assert (await story.users())[email]["absent_runs"] == 1
    story.source.report = {"problems": ("connection_lost",)}
    await story.sync()
    assert ((await story.users())[email]["absent_runs"], (await story.users())[email]["state"]) == (1, "active")
    story.source.report = {}
    await story.sync()
    assert (await story.users())[email]["state"] == "flagged"
