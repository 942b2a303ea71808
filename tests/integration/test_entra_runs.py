"""Whole runs over an Entra tenant: what becomes of users, and how little memory many of them take."""

import tracemalloc
from datetime import timedelta

import pytest

from postern_common.documents import Collections
from postern_sync.source import Reading
from postern_sync.sources import Sources
from tests.servers.entra import BOX, EntraStory, entra, entra_settings, graph, graph_server  # noqa: F401
from tests.servers.graph_fake import group, user
from tests.servers.stored import Stored, connect
from tests.servers.sync_source import SyncStory

MANY = 20_000


@pytest.fixture
async def story(mongo_uri, database, graph_server, graph):
    """A customer whose runs read the tenant."""
    mongo = connect(mongo_uri, database)
    await mongo.ensure_indexes()
    settings = entra_settings(mongo_uri, database, graph_server)
    made = SyncStory(Stored(mongo), settings, Sources(settings, BOX, mongo))  # type: ignore[arg-type]
    await made.begin()
    tenant = EntraStory(made.stored, settings, graph)
    tenant.customer_id = made.customer_id
    fields = {"provider": "entra", "ldap": None, "entra": tenant.entra()}
    await made.stored.set(Collections.DIRECTORIES, (await made.directory())["_id"], **fields)
    yield made
    mongo.close()


def states(users):
    return {email.partition("@")[0]: (user["state"], user["flag_reason"]) for email, user in users.items()}


@pytest.mark.spec("E2", "S2", "S15")
async def test_users_of_a_tenant_are_added_flagged_and_unflagged_as_graph_says(story, graph):
    graph.page_size = 50
    graph.add("users", *(user(number, story.domain) for number in range(8)))
    graph.add("groups", group("staff", story.domain))
    graph.join("id-staff", "id-1", "id-2")
    run = await story.sync()
    assert (run["state"], run["counts"]["added"], run["counts"]["members_added"]) == ("completed", 9, 2)
    assert await story.in_step()
    graph.change("users", "id-1", accountEnabled=False)
    graph.remove("users", "id-2", "changed")
    graph.remove("users", "id-3", "deleted")
    graph.change("users", "id-4", mail=f"new4@{story.domain}", proxyAddresses=[f"SMTP:new4@{story.domain}"])
    run = await story.sync()
    assert (run["state"], run["counts"]["flagged"]) == ("completed", 3)
    found = states(await story.users())
    assert found["u1"] == ("flagged", "disabled")
    assert found["u2"] == ("flagged", "soft_deleted")
    assert found["u3"] == ("flagged", "hard_deleted")
    assert found["new4"] == ("active", None)
    graph.change("users", "id-1", accountEnabled=True)
    graph.add("users", user(2, story.domain))
    run = await story.sync()
    assert run["counts"]["unflagged"] == 2
    again = states(await story.users())
    assert again["u1"] == again["u2"] == ("active", None)
    assert len(await story.users()) == 9


@pytest.mark.spec("S16", "E2")
async def test_case_21_a_run_whose_third_page_fails_for_good_flags_nobody(story, graph, monkeypatch):
    graph.add("users", *(user(number, story.domain) for number in range(10)))
    await story.sync()
    graph.remove("users", "id-9", is_told=False)
    graph.change("users", "id-0", surname="Moe")
    directory = await story.directory()
    old = directory["delta"] | {"full_round_at": directory["delta"]["full_round_at"] - timedelta(days=8)}
    await story.stored.set(Collections.DIRECTORIES, directory["_id"], delta=old)
    monkeypatch.setattr("postern_sync.adapters.entra.graph.Patience.__init__.__defaults__", (2, 0.01, 1.0, 1.0))
    graph.fail("/users/delta", 503, after=2, times=99)
    run = await story.sync()
    assert (run["state"], run["counts"]["flagged"]) == ("incomplete", 0)
    assert "graph_unavailable" in run["reason"]
    users = await story.users()
    assert {user["state"] for user in users.values()} == {"active"}
    assert users[f"u0@{story.domain}"]["last_name"] == "Moe"  # what was read counts
    assert (await story.directory())["delta"] == old
    graph.faults.clear()
    run = await story.sync()
    assert (run["state"], run["counts"]["flagged"]) == ("completed", 1)


@pytest.mark.spec("S16")
async def test_case_24_more_removals_in_one_delta_than_the_guard_allows_are_held(story, graph):
    graph.page_size = 50
    graph.add("users", *(user(number, story.domain) for number in range(40)))
    await story.sync()
    for number in range(6):
        graph.remove("users", f"id-{number}")
    graph.add("users", user("new", story.domain))
    run = await story.sync()
    assert (run["state"], run["held"], run["counts"]["added"]) == ("held", {"flag": 6}, 1)
    # The changes were read; what was held is held again by the next run, which reads nothing new.
    again = await story.sync()
    assert (again["state"], again["held"]) == ("held", {"flag": 6})


@pytest.mark.spec("E2")
async def test_case_23_a_user_without_account_state_is_not_flagged_and_guests_are_not_added(story, graph):
    graph.add("users", user(1, story.domain), user(2, story.domain))
    await story.sync()
    graph.change("users", "id-1", accountEnabled=None)
    guest = {"userPrincipalName": "x_gmail.com#EXT#@t.onmicrosoft.com", "mail": "x@gmail.test", "userType": "Guest"}
    graph.add("users", user("x", **guest))
    run = await story.sync()
    assert (run["state"], run["skipped"]["guest"]["count"]) == ("completed", 1)
    assert states(await story.users()) == {"u1": ("active", None), "u2": ("active", None)}


@pytest.mark.spec("S11", "S16")
async def test_another_filter_holds_all_that_it_would_remove(story, graph):
    graph.page_size = 50
    graph.add("users", *(user(number, story.domain, department="Law" if number else "Sales") for number in range(5)))
    await story.sync()
    directory = await story.directory()
    filtered = directory["entra"] | {"user_filter": "department eq 'Law'"}
    await story.stored.set(Collections.DIRECTORIES, directory["_id"], entra=filtered)
    run = await story.sync()
    assert (run["state"], run["held"]) == ("held", {"flag": 1})
    [item] = await story.items(run["_id"], action="flag")
    assert (item["label"], item["reason"]) == (f"u0@{story.domain}", "filter")


@pytest.mark.spec("S16")
async def test_a_preview_of_a_tenant_writes_its_plan_alone(story, graph):
    graph.add("users", user(1, story.domain), user(2, story.domain))
    run = await story.sync(kind="preview")
    assert (run["state"], run["counts"]["added"]) == ("completed", 2)
    assert await story.stored.all(Collections.DIRECTORY_MIRROR) == []
    assert (await story.directory())["delta"] is None
    assert await story.users() == {}


class Counting(Reading):
    """Counts what is handed over."""

    def __init__(self):
        self.entries = self.members = 0

    def put(self, entries):
        self.entries += len(entries)

    def put_members(self, group_id, refs):
        self.members += len(refs)

    def restart_members(self, group_id):
        raise AssertionError

    def progress(self, *, phase, read, total=None):
        return


@pytest.mark.spec("S18", "E2")
@pytest.mark.timeout(300)
async def test_memory_does_not_grow_with_the_tenant(entra, graph, record_property):
    """Of 20,000 people and a list of all of them, whole and again by changes."""
    from postern_sync.adapters.entra.factory import make_entra_source
    from postern_sync.mirror.store import Mirror

    graph.page_size = 500
    peaks = []
    for count in (2_000, MANY):
        graph.objects = {"users": {}, "groups": {}}
        graph.members = {"id-all": [f"id-{number}" for number in range(count)]}
        graph.journal.clear()
        graph.asked.clear()
        for number in range(count):
            graph.objects["users"][f"id-{number}"] = user(number)
        graph.objects["groups"]["id-all"] = group("all")
        await entra.set(delta=None)
        directory = await entra.directory()
        source = make_entra_source(directory, BOX, entra.settings, Mirror(entra.mongo, entra.customer_id, "entra"))
        tracemalloc.start()
        held = tracemalloc.get_traced_memory()[0]
        found = Counting()
        report = await source.read(found)
        peaks.append((tracemalloc.get_traced_memory()[1] - held) / 2**20)
        tracemalloc.stop()
        assert (report.users, found.entries, found.members) == (count, count + 1, count)
    record_property("counts", f"peak {peaks[0]:.1f} MiB of 2,000 people, {peaks[1]:.1f} MiB of {MANY}")
    assert peaks[1] < peaks[0] + 15
