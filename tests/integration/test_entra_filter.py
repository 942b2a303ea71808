"""Users read through a Graph `$filter`, and who is missing from its lagging list."""

from datetime import datetime, timedelta

import pytest

from postern_sync.source import SourceFailed
from tests.servers.entra import entra, graph, graph_server  # noqa: F401
from tests.servers.graph_fake import group, user

SALES = "department eq 'Sales'"


@pytest.fixture
async def sales(entra, graph):
    """A tenant that is read through a filter."""
    graph.add("users", *(user(number, department="Sales" if number < 4 else "Law") for number in range(6)))
    graph.add("groups", group("staff"))
    await entra.set_entra(user_filter=SALES)
    return entra


async def missed_for(entra, key, age):
    """Make it longer ago that a user was missed first."""
    document = (await entra.mirror())[key]
    since = datetime.fromisoformat(document["object"]["@missed"]) - age
    await entra.mongo.db["directory_mirror"].update_one(
        {"_id": document["_id"]}, {"$set": {"object.@missed": since.isoformat()}}
    )


@pytest.mark.spec("S11")
async def test_users_are_read_through_the_filter_whole_in_each_run_and_groups_by_their_changes(sales, graph):
    found = await sales.read()
    assert found.here == ["id-0", "id-1", "id-2", "id-3", "id-staff"]
    [first, *_] = [headers for _, path, headers in graph.asked if path.startswith("/users?")]
    assert first["consistencylevel"] == "eventual"
    assert all("$count=true" in path for path in graph.paths("/users?"))
    graph.asked.clear()
    assert (await sales.read()).here == found.here
    assert len(graph.paths("/users?")) == 2
    assert [path for path in graph.paths("/groups/delta") if "$select" in path] == []
    assert graph.paths("/users/delta") == []


@pytest.mark.spec("S11", "S16")
async def test_who_is_missing_from_the_list_and_still_there_is_not_missed_at_once(sales, graph):
    await sales.read()
    graph.hidden = {"id-1"}
    graph.remove("users", "id-2")
    found = await sales.read()
    assert found.here == ["id-0", "id-1", "id-3", "id-staff"]
    assert found.entries["id-1"].excluded is None
    graph.hidden = set()
    assert "@missed" in (await sales.mirror())["user:id-1"]["object"]
    await sales.read()
    assert "@missed" not in (await sales.mirror())["user:id-1"]["object"]


@pytest.mark.spec("S11")
async def test_who_stays_missing_from_the_list_has_left_the_filter(sales, graph):
    await sales.read()
    graph.change("users", "id-1", department="Law")
    assert (await sales.read()).entries["id-1"].excluded is None
    assert (await sales.read()).entries["id-1"].excluded is None  # asked again a moment later
    await missed_for(sales, "user:id-1", timedelta(hours=2))
    found = await sales.read()
    assert found.entries["id-1"].excluded == "filter"
    assert found.entries["id-1"].fields["department"] == "Law"
    graph.asked.clear()
    assert (await sales.read()).entries["id-1"].excluded == "filter"
    assert graph.paths("/$batch") == []
    graph.change("users", "id-1", department="Sales")
    assert (await sales.read()).entries["id-1"].excluded is None


@pytest.mark.spec("S11")
async def test_absences_are_asked_for_by_twenties_and_wait_for_those_that_are_throttled(sales, graph):
    graph.page_size = 100
    graph.add("users", *(user(number, department="Sales") for number in range(10, 55)))
    await sales.read()
    for number in range(10, 55):
        graph.remove("users", f"id-{number}")
    graph.hidden = {"id-1"}
    graph.asked.clear()
    graph.fail("/$batch/users/id-1", 429, times=1, Retry_After="1")
    found = await sales.read()
    assert found.here == ["id-0", "id-1", "id-2", "id-3", "id-staff"]
    assert found.report.problems == ()
    assert len(graph.paths("/$batch")) == 4


@pytest.mark.spec("S11", "S16")
async def test_absences_that_cannot_be_confirmed_leave_the_reading_incomplete(sales, graph):
    await sales.read()
    before = await sales.mirror()
    graph.remove("users", "id-1")
    graph.fail("/$batch", 503, times=99)
    found = await sales.read()
    assert found.report.problems[0].startswith("graph_unavailable: ")
    assert "id-1" in found.here
    assert await sales.mirror() == before


@pytest.mark.spec("S11", "S16")
async def test_another_filter_is_another_question_and_puts_people_out_at_once(sales, graph):
    """The run holds all of it for an approval, so nobody need be asked for."""
    await sales.read()
    await sales.set_entra(user_filter="department eq 'Law'")
    graph.asked.clear()
    found = await sales.read()
    assert found.here == ["id-4", "id-5", "id-staff"]
    assert graph.paths("/$batch") == []
    assert [path for path in graph.paths("/groups/delta") if "$select" in path]
    await sales.set_entra(user_filter="")
    assert len((await sales.read()).here) == 7


@pytest.mark.spec("S11")
async def test_a_filter_that_graph_refuses_ends_the_run_with_graphs_reason(sales, graph):
    await sales.set_entra(user_filter="department like 'Sales'")
    with pytest.raises(SourceFailed, match="Invalid filter clause") as failure:
        await sales.read()
    assert failure.value.step == "filter"
