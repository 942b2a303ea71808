"""Plans meet what has changed since: users, addresses, licences, domains; each change is made whole or not at all."""

import pytest

from postern_common.documents import Collections
from postern_sync import engine
from postern_sync.applying.application import Application
from tests.servers.sync_source import DIRECTORIES, entry, people, story  # noqa: F401

A, B, C = "ann", "ben", "cleo"


@pytest.fixture
def meanwhile(monkeypatch):
    """Have something done between a run's plan and its application."""

    def arrange(work):
        class Late(Application):
            async def run(self):
                await work()
                await super().run()

        monkeypatch.setattr(engine, "Application", Late)

    return arrange


def at(story, *names):
    return [f"{name}@{story.domain}" for name in names]


@pytest.mark.spec("S16")
async def test_a_user_who_changed_since_the_plan_is_left_and_the_others_are_updated(story, meanwhile):
    a, b = at(story, A, B)
    story.source.entries = [entry(A, a), entry(B, b)]
    await story.sync()
    story.source.entries = [entry(A, a, fields={"mobile": "1"}), entry(B, b, fields={"mobile": "2"})]

    async def change():
        await story.set_user(a, notes="by hand")

    meanwhile(change)
    run = await story.sync()
    users = await story.users()
    assert (users[a]["mobile"], users[a]["notes"], users[b]["mobile"]) == ("", "by hand", "2")
    assert (run["state"], run["counts"]["updated"], run["counts"]["stale"]) == ("completed", 1, 1)
    meanwhile(story.users)
    await story.sync()
    assert (await story.users())[a]["mobile"] == "1"


@pytest.mark.spec("U4")
async def test_an_address_that_another_customer_got_since_the_plan_fails_its_user_alone(story, meanwhile):
    shared = f"shared-{story.domain}"
    await story.stored.domain(shared, customer_id=story.customer_id)
    a, b = at(story, A, B)
    other = (await story.stored.customer())["_id"]
    story.source.entries = [entry(A, a, f"x@{shared}"), entry(B, b)]

    async def take():
        await story.stored.set(Collections.DOMAINS, await domain_id(story, shared), state="expired")
        await story.stored.domain(shared, customer_id=other, state="verified", next_check_at=None)
        await story.stored.user(f"x@{shared}", customer_id=other, verified=True)

    meanwhile(take)
    run = await story.sync()
    assert sorted(await story.users()) == [b]
    [item] = await story.items(run["_id"], state="failed")
    assert (item["label"], item["error"], run["counts"]["failed"]) == (a, "address_taken", 1)
    assert await story.in_step()


async def domain_id(story, name):
    [found] = await story.stored.all(Collections.DOMAINS, name=name, customer_id=story.customer_id)
    return found["_id"]


@pytest.mark.spec("U4")
async def test_an_address_that_was_taken_without_a_lock_fails_its_user_alone(story, meanwhile):
    entries = [entry(f"{number:03d}", f"v{number:03d}@{story.domain}") for number in range(30)]
    story.source.entries = entries

    async def take():
        # A user without a row of its own in the addresses: only the index knows.
        user = await story.stored.user(f"v007@{story.domain}", customer_id=story.customer_id)
        await story.mongo.db["addresses"].delete_many({"user_id": user["_id"]})

    meanwhile(take)
    run = await story.sync()
    [item] = await story.items(run["_id"], state="failed")
    assert (item["label"], item["error"]) == (f"v007@{story.domain}", "address_taken")
    assert (run["counts"]["added"], len(await story.users(source="ldap"))) == (29, 29)


@pytest.mark.spec("S5", "U4")
async def test_an_alias_is_handed_over_in_one_transaction(story):
    a, b, shared = at(story, A, B, "sales")
    story.source.entries = [entry(A, a, shared), entry(B, b)]
    await story.sync()
    story.source.entries = [entry(A, a), entry(B, b, shared)]
    run = await story.sync()
    users = await story.users()
    assert (run["state"], run["counts"]["updated"]) == ("completed", 2)
    assert [alias["address"] for alias in users[b]["aliases"]] == [shared]
    assert (users[a]["aliases"], await story.in_step()) == ([], True)
    assert len({item["group"] for item in await story.items(run["_id"])}) == 1


@pytest.mark.spec("S5", "U4")
async def test_two_users_swap_their_primary_addresses(story):
    a, b = at(story, A, B)
    story.source.entries = [entry(A, a), entry(B, b)]
    await story.sync()
    before = await story.users()
    story.source.entries = [entry(A, b), entry(B, a)]
    run = await story.sync()
    users = await story.users()
    assert (run["state"], await story.in_step()) == ("completed", True)
    assert (users[a]["_id"], users[b]["_id"]) == (before[b]["_id"], before[a]["_id"])
    assert (users[a]["aliases"], users[b]["aliases"]) == ([], [])


@pytest.mark.spec("S5", "U4")
async def test_addresses_go_round_three_users_and_one_that_is_new(story):
    a, b, c = at(story, A, B, C)
    story.source.entries = [entry(A, a), entry(B, b), entry(C, c)]
    await story.sync()
    first = {email: user["_id"] for email, user in (await story.users()).items()}
    fresh = f"new@{story.domain}"
    story.source.entries = [entry(A, b), entry(B, c), entry(C, fresh), entry("d", a)]
    await story.sync()
    users = await story.users()
    assert (users[b]["_id"], users[c]["_id"], users[fresh]["_id"]) == (first[a], first[b], first[c])
    assert users[a]["_id"] not in first.values()
    assert await story.in_step()


@pytest.mark.spec("S5")
async def test_a_renamed_user_keeps_the_old_address_where_the_directory_does(story):
    a, b = at(story, A, B)
    story.source.entries = [entry(A, a)]
    await story.sync()
    story.source.entries = [entry(A, b, a)]
    await story.sync()
    [user] = (await story.users()).values()
    assert (user["email"], [alias["address"] for alias in user["aliases"]]) == (b, [a])
    assert await story.in_step()
    story.source.entries = [entry(A, b)]
    await story.sync()
    assert await story.addresses() == {b: (user["_id"], True)}


@pytest.mark.spec("T6")
async def test_a_run_adds_up_to_the_licences_and_tells_who_was_left_out(story):
    await story.stored.set(Collections.CUSTOMERS, story.customer_id, allowed_users=3)
    await story.stored.user(f"hand@{story.domain}", customer_id=story.customer_id, verified=True)
    story.source.entries = [*people(4, story.domain), entry("g", f"staff@{story.domain}", kind="list")]
    run = await story.sync()
    assert (run["counts"]["added"], run["skipped"]["licence_limit"]["count"]) == (3, 2)
    assert [user["kind"] for user in (await story.users(source="ldap")).values()].count("user") == 2
    known = await story.stored.all(Collections.KNOWN_ADDRESSES, customer_id=story.customer_id)
    assert {row["reason"] for row in known} == {"licence_limit"}
    assert len(known) == 2


@pytest.mark.spec("T6")
async def test_licences_that_went_since_the_plan_are_not_overdrawn(story, meanwhile):
    await story.stored.set(Collections.CUSTOMERS, story.customer_id, allowed_users=4)
    story.source.entries = people(4, story.domain)

    async def add():
        await story.stored.user(f"hand@{story.domain}", customer_id=story.customer_id, verified=True)

    meanwhile(add)
    run = await story.sync()
    [item] = await story.items(run["_id"], state="failed")
    assert (item["error"], len(await story.users())) == ("licence_limit", 4)


@pytest.mark.spec("T5", "X1")
async def test_sessions_and_tokens_of_a_flagged_user_end_and_others_stay(story):
    story.source.entries = people(3, story.domain)
    await story.sync()
    gone, kept = (user["_id"] for user in [u for _, u in sorted((await story.users()).items())][:2])
    for user_id in (gone, kept):
        await story.stored.put(Collections.SESSIONS, {"_id": f"s-{user_id}", "principal_id": user_id})
        await story.stored.put(Collections.TOKENS, {"_id": f"t-{user_id}", "owner_id": user_id, "hash": user_id})
    story.source.entries = people(2, story.domain, 1)
    await story.sync()
    assert (await story.stored.get(Collections.USERS, gone))["state"] == "flagged"
    assert [found["_id"] for found in await story.stored.all(Collections.SESSIONS)] == [f"s-{kept}"]
    assert [found["_id"] for found in await story.stored.all(Collections.TOKENS)] == [f"t-{kept}"]


@pytest.mark.spec("S9")
@pytest.mark.parametrize("delay, days", [(None, None), (3, 7), (7, 7), (30, 30)])
async def test_a_flagged_user_goes_after_the_customers_delay_and_never_before_seven_days(story, delay, days):
    await story.stored.set(Collections.CUSTOMERS, story.customer_id, deletion_delay_days=delay)
    story.source.entries = people(2, story.domain)
    await story.sync()
    story.source.entries = people(1, story.domain)
    await story.sync()
    user = (await story.users())[f"u000001@{story.domain}"]
    given = None if user["due_at"] is None else (user["due_at"] - user["flagged_at"]).days
    assert (user["state"], given, user["due_by"]) == ("flagged", days, "delay")


@pytest.mark.spec("S15")
async def test_a_user_who_comes_back_in_time_is_unflagged_with_everything_intact(story):
    story.source.entries = people(2, story.domain)
    await story.sync()
    email = f"u000001@{story.domain}"
    before = (await story.users())[email]
    story.source.entries = people(1, story.domain)
    await story.sync()
    story.source.entries = people(2, story.domain)
    run = await story.sync()
    after = (await story.users())[email]
    moving = {"version", "updated_at"}
    assert {name: value for name, value in after.items() if name not in moving | {"absent_runs"}} == {
        name: value for name, value in before.items() if name not in moving
    }
    assert run["counts"]["unflagged"] == 1
    assert await story.stored.events("UserUnflagged") == [("UserUnflagged", after["_id"])]


@pytest.mark.spec("S15")
async def test_a_deleted_user_who_comes_back_gets_the_old_id(story):
    story.source.entries = people(2, story.domain)
    await story.sync()
    email = f"u000001@{story.domain}"
    user = (await story.users())[email]
    now = story.mongo.clock.now()
    later = now.replace(year=now.year + 1)
    await story.mongo.db["users"].delete_one({"_id": user["_id"]})
    await story.mongo.db["addresses"].delete_many({"user_id": user["_id"]})
    kept = {
        "email_key": email,
        "immutable_id": None,
        "user": user | {"state": "flagged", "notes": "kept", "site_id": "gone"},
    }
    await story.stored.put(
        Collections.DELETED_USERS,
        {"_id": user["_id"], "customer_id": story.customer_id, "deleted_at": now, "purge_at": later, **kept},
    )
    run = await story.sync()
    back = (await story.users())[email]
    assert (back["_id"], back["state"], back["notes"], back["due_at"]) == (user["_id"], "active", "kept", None)
    assert back["site_id"] is None
    assert (run["counts"]["restored"], run["counts"]["added"]) == (1, 0)
    assert await story.stored.events("UserRestored") == [("UserRestored", user["_id"])]
    assert (await story.stored.all(Collections.DELETED_USERS), await story.in_step()) == ([], True)


@pytest.mark.spec("S7")
async def test_members_of_lists_follow_the_directory_and_those_put_in_by_hand_stay(story):
    story.source.entries = [*people(4, story.domain), entry("g", f"staff@{story.domain}", kind="list")]
    story.source.members = {"id-g": ["id-000000", "id-000001", "id-unknown"]}
    await story.sync()
    users = await story.users()
    staff, ids = users[f"staff@{story.domain}"]["_id"], [users[f"u{n:06d}@{story.domain}"]["_id"] for n in range(4)]
    row = {"customer_id": story.customer_id, "group_id": staff, "member_id": ids[3], "source": "manual"}
    await story.stored.put(Collections.MEMBERSHIPS, row)
    story.source.members = {"id-g": ["id-000001", "id-000002"]}
    run = await story.sync()
    found = await story.stored.all(Collections.MEMBERSHIPS)
    assert {(row["member_id"], row["source"]) for row in found} == {
        (ids[1], "ldap"), (ids[2], "ldap"), (ids[3], "manual"),
    }  # fmt: skip
    assert (run["counts"]["members_added"], run["counts"]["members_removed"]) == (1, 1)


@pytest.mark.spec("S4", "U4")
async def test_a_domain_that_was_removed_since_the_plan_gets_no_addresses(story, meanwhile):
    story.source.entries = people(2, story.domain)

    async def remove():
        await story.mongo.db["domains"].delete_one({"name": story.domain})

    meanwhile(remove)
    run = await story.sync()
    assert (await story.users(), run["counts"]["failed"]) == ({}, 2)
    assert {item["error"] for item in await story.items(run["_id"])} == {"domain_gone"}


@pytest.mark.spec("S17")
async def test_a_customer_that_was_removed_meanwhile_ends_the_run(story, meanwhile):
    story.source.entries = people(2, story.domain)

    async def remove():
        await story.mongo.db["customers"].delete_one({"_id": story.customer_id})

    meanwhile(remove)
    run = await story.sync()
    assert (run["state"], await story.users()) == ("failed", {})


@pytest.mark.spec("E2")
async def test_where_reading_goes_on_is_stored_with_the_runs_end_and_not_by_a_preview(story):
    now = story.mongo.clock.now()
    story.source.entries = people(2, story.domain)
    story.source.delta = {"users_link": "u", "groups_link": "g", "at": now, "full_round_at": now, "scope_hash": "s"}
    await story.sync("preview")
    assert (await story.directory())["delta"] is None
    run = await story.sync()
    directory = await story.directory()
    assert (directory["delta"]["users_link"], directory["last_run_id"]) == ("u", run["_id"])
    assert (directory["last_good"]["run_id"], directory["version"]) == (run["_id"], 1)
    assert "outcome" not in run
    story.source.delta |= {"users_link": "v"}
    story.source.report = {"problems": ("connection_lost",)}
    await story.sync()
    assert (await story.directory())["delta"]["users_link"] == "u"


@pytest.mark.spec("R4")
async def test_the_mail_path_is_told_when_users_were_known_last(story):
    await story.stored.set(DIRECTORIES, (await story.directory())["_id"], interval_hours=12)
    story.source.entries = people(2, story.domain)
    await story.sync()
    customer = await story.customer()
    assert (customer["last_good_sync_at"] is not None, customer["sync_interval_seconds"]) == (True, 43_200)
    story.source.report = {"problems": ("connection_lost",)}
    await story.sync()
    assert (await story.customer())["last_good_sync_at"] == customer["last_good_sync_at"]


@pytest.mark.spec("U4", "S17")
async def test_an_address_that_another_customer_has_is_left_out_and_told_without_naming_the_other(story):
    shared = f"shared-{story.domain}"
    await story.stored.domain(shared, customer_id=story.customer_id)
    other = (await story.stored.customer())["_id"]
    await story.stored.user(f"x@{shared}", customer_id=other, verified=True)
    a = f"ann@{story.domain}"
    story.source.entries = [entry(A, a, f"x@{shared}")]
    run = await story.sync()
    [user] = (await story.users()).values()
    assert (user["email"], user["aliases"]) == (a, [])
    assert sum(skipped["count"] for skipped in run["skipped"].values()) == 1
    assert other not in repr(run)
    assert await story.stored.all(Collections.KNOWN_ADDRESSES) == []
