"""An Entra tenant read through real clients: whole, by its changes, and through everything that Graph may do."""

import asyncio
from datetime import timedelta

import pytest

from postern_common.errors import Temporary
from postern_sync.mirror.store import Mirror, Mirrored
from postern_sync.source import Cancelled, SourceFailed
from tests.servers.entra import entra, graph, graph_server  # noqa: F401
from tests.servers.graph_fake import group, user


@pytest.mark.spec("E2", "S7")
async def test_a_tenant_is_read_whole_then_by_its_changes(entra, graph):
    graph.add("users", *(user(number) for number in range(5)))
    graph.add("groups", group("staff"), group("admins", mailEnabled=False, mail=None))
    graph.join("id-staff", "id-0", "id-1", "id-2")
    found = await entra.read()
    assert (found.report.users, found.report.groups, found.report.problems) == (5, 1, ())
    assert found.here == ["id-0", "id-1", "id-2", "id-3", "id-4", "id-staff"]
    assert found.members == {"id-staff": {"id-0", "id-1", "id-2"}}
    assert ("users", 4) in found.told
    graph.asked.clear()
    graph.change("users", "id-1", surname="Moe")
    graph.change("users", "id-2", accountEnabled=False)
    graph.add("users", user(9))
    graph.leave("id-staff", "id-0")
    graph.join("id-staff", "id-9")
    again = await entra.read()
    assert again.entries["id-1"].fields["last_name"] == "Moe"
    assert again.entries["id-1"].fields["first_name"] == "Ann"
    assert again.entries["id-2"].is_disabled
    assert again.members == {"id-staff": {"id-1", "id-2", "id-9"}}
    assert again.report.users == 6
    assert len(graph.paths("/users/delta")) == 2  # three changes, on two pages
    assert not [path for path in graph.paths("/users/delta") if "$select" in path]


@pytest.mark.spec("E2")
async def test_what_is_asked_of_users_includes_what_comes_only_when_asked_for(entra, graph):
    graph.add("users", user(1))
    await entra.read()
    [path] = graph.paths("/users/delta")
    assert "accountEnabled" in path
    assert "proxyAddresses" in path
    assert "onPremisesImmutableId" in path
    [path] = graph.paths("/groups/delta")
    assert path.endswith("securityEnabled,members")


@pytest.mark.spec("E2", "S15")
@pytest.mark.parametrize("reason, kind", [("changed", "soft"), ("deleted", "hard")])
async def test_removals_tell_how_and_a_user_who_comes_back_is_there_again(entra, graph, reason, kind):
    graph.add("users", user(1), user(2))
    graph.add("groups", group("staff"))
    await entra.read()
    graph.remove("users", "id-1", reason)
    graph.remove("groups", "id-staff", reason)
    found = await entra.read()
    assert found.entries["id-1"].removed == kind
    assert found.entries["id-1"].primary.address == "u1@example.test"  # for people who look at the plan
    assert found.entries["id-staff"].removed == kind
    assert (found.here, found.report.users, found.report.groups) == (["id-2"], 1, 0)
    graph.add("users", user(1))
    assert (await entra.read()).entries["id-1"].removed is None


@pytest.mark.spec("E2", "S18")
async def test_an_unchanged_tenant_writes_nothing_but_where_reading_goes_on(entra, graph):
    graph.add("users", *(user(number) for number in range(7)))
    graph.add("groups", group("staff"))
    graph.join("id-staff", "id-1")
    first = await entra.read()
    before = await entra.mirror()
    counts = (await entra.mongo.client.admin.command("serverStatus"))["opcounters"]
    second = await entra.read()
    await entra.age(full_round_at=timedelta(days=8))
    third = await entra.read()
    now = (await entra.mongo.client.admin.command("serverStatus"))["opcounters"]
    assert first.entries == second.entries == third.entries
    assert first.members == third.members
    assert await entra.mirror() == before
    assert now["insert"] == counts["insert"]
    assert now["delete"] == counts["delete"]
    assert now["update"] - counts["update"] <= 7  # who writes, twice; where reading goes on; and this test's own


@pytest.mark.spec("E2")
async def test_empty_pages_replays_and_any_order_change_nothing(entra, graph):
    graph.add("users", *(user(number) for number in range(9)))
    graph.empty_pages = graph.repeats = True
    found = await entra.read()
    assert found.report.users == 9
    assert found.report.problems == ()
    graph.change("users", "id-1", surname="One")
    graph.change("users", "id-2", surname="Two")
    graph.change("users", "id-1", mobilePhone="+1")
    graph.change("users", "id-1", surname="Last")
    graph.change("users", "id-3", surname="Three")
    changed = (await entra.read()).entries["id-1"].fields
    assert (changed["last_name"], changed["mobile"]) == ("Last", "+1")


@pytest.mark.spec("E2")
@pytest.mark.parametrize("by", ["gone", "state"])
async def test_a_link_that_is_known_no_more_has_the_whole_read_and_finds_who_is_gone(entra, graph, by):
    graph.add("users", user(1, mobilePhone="+44 1"), user(2), user(3))
    graph.add("groups", group("staff"))
    graph.join("id-staff", "id-1", "id-2")
    await entra.read()
    graph.remove("users", "id-2", is_told=False)
    graph.members["id-staff"].remove("id-2")
    graph.change("users", "id-1", mobilePhone=None)
    graph.expire(by)
    found = await entra.read()
    assert found.report.problems == ()
    assert "id-2" not in found.entries
    assert found.entries["id-1"].fields["mobile"] == ""  # Graph leaves out what is not set
    assert found.members == {"id-staff": {"id-1"}}
    assert "user:id-2" not in await entra.mirror()
    assert not [path for path in graph.paths("/users/delta") if "deltatoken" in path]


@pytest.mark.spec("E2")
async def test_removals_that_graph_forgets_to_tell_are_found_by_the_weekly_full_round(entra, graph):
    graph.add("users", user(1), user(2))
    await entra.read()
    graph.remove("users", "id-2", is_told=False)
    assert (await entra.read()).here == ["id-1", "id-2"]
    await entra.age(full_round_at=timedelta(days=6, hours=23))
    assert (await entra.read()).here == ["id-1"]


@pytest.mark.spec("E2")
@pytest.mark.parametrize("status", [429, 503, 504])
async def test_throttling_waits_as_long_as_graph_says_and_the_reading_goes_on(entra, graph, status):
    graph.add("users", *(user(number) for number in range(6)))
    graph.fail("/users/delta", status, after=1, times=2, Retry_After="1")
    began = asyncio.get_running_loop().time()
    found = await entra.read()
    assert asyncio.get_running_loop().time() - began >= 2
    assert (found.report.users, found.report.problems) == (6, ())


@pytest.mark.spec("E2")
async def test_a_connection_that_breaks_is_made_again(entra, graph):
    graph.add("users", *(user(number) for number in range(6)))
    graph.fail("/users/delta", 0, after=1, times=2)
    found = await entra.read()
    assert (found.report.users, found.report.problems) == (6, ())


@pytest.mark.spec("S16", "E2")
async def test_case_21_a_page_that_fails_for_good_is_a_problem_and_misses_nobody(entra, graph):
    graph.add("users", *(user(number) for number in range(10)))
    await entra.read()
    link = (await entra.directory())["delta"]
    graph.remove("users", "id-9", is_told=False)
    graph.add("users", user("new"))
    await entra.age(full_round_at=timedelta(days=8))
    old = await entra.directory()
    graph.fail("/users/delta", 503, after=4, times=99)
    before = await entra.mirror()
    found = await entra.read()
    assert found.report.problems[0].startswith("graph_unavailable: ")
    assert "id-9" in found.here
    assert (await entra.directory())["delta"] == old["delta"]
    assert await entra.mirror() == before
    graph.faults.clear()
    whole = await entra.read()
    assert whole.report.problems == ()
    assert "id-9" not in whole.entries
    assert "id-new" in whole.here
    assert (await entra.directory())["delta"]["users_link"] != link["users_link"]


@pytest.mark.spec("E2")
async def test_what_was_read_before_a_page_failed_is_handed_over_so_that_it_can_be_added(entra, graph):
    graph.add("users", *(user(number) for number in range(10)))
    graph.fail("/users/delta", 503, after=2, times=99)
    found = await entra.read()
    assert found.here == ["id-0", "id-1", "id-2", "id-3"]
    assert found.report.problems
    assert await entra.mirror() == {}
    assert (await entra.directory())["delta"] is None


@pytest.mark.spec("E2")
async def test_a_tenant_that_does_not_answer_at_all_ends_the_run(entra, graph):
    graph.fail("/users/delta", 503, times=99)
    with pytest.raises(SourceFailed, match="too busy") as failure:
        await entra.read()
    assert failure.value.step == "connect"


@pytest.mark.spec("E2")
async def test_a_token_that_ends_between_pages_is_renewed_once(entra, graph):
    graph.add("users", *(user(number) for number in range(6)))
    graph.fail("/users/delta", 401, after=1)
    found = await entra.read()
    assert found.report.users == 6
    assert graph.issued == 2


@pytest.mark.spec("E2")
async def test_consent_withdrawn_while_reading_ends_the_run_without_a_word_about_users(entra, graph):
    graph.add("users", *(user(number) for number in range(6)))
    await entra.read()
    graph.add("users", *(user(number) for number in range(6, 20)))
    before = (await entra.mirror(), await entra.directory())
    graph.fail("/users/delta", 401, after=1, times=99)
    with pytest.raises(SourceFailed, match="consent withdrawn") as failure:
        await entra.read()
    assert failure.value.step == "permission"
    assert graph.issued == 3
    assert (await entra.mirror(), await entra.directory()) == before


@pytest.mark.spec("E2")
async def test_a_missing_permission_ends_the_run(entra, graph):
    graph.add("users", user(1))
    graph.roles = ("User.Read.All",)
    with pytest.raises(SourceFailed, match="a permission or the admin's consent is missing") as failure:
        await entra.read()
    assert failure.value.step == "permission"


@pytest.mark.spec("E1")
@pytest.mark.parametrize(
    "fields, text",
    [
        ({"client_secret": "wrong"}, "The client secret is wrong.*AADSTS7000215"),
        ({"client_id": "99999999-8888-7777-6666-000000000000"}, "not known in this tenant"),
        ({"tenant": "nobody.example.test"}, "The tenant is not known"),
    ],
)
async def test_a_sign_in_that_is_refused_ends_the_run_in_plain_words(entra, graph, fields, text):
    await entra.set_entra(**fields)
    with pytest.raises(SourceFailed, match=text) as failure:
        await entra.read()
    assert failure.value.step == "token"


@pytest.mark.spec("E2")
async def test_a_token_is_sent_to_graph_alone(entra, graph):
    graph.add("users", *(user(number) for number in range(6)))
    port = int(graph.url.rsplit(":", 1)[1])
    for elsewhere in ("https://evil.example.test", f"https://localhost.evil.test:{port}", f"http://localhost:{port}"):
        graph.elsewhere = elsewhere
        found = await entra.read()
        assert found.report.problems[0].startswith("graph_foreign: ")
        assert "evil" not in found.report.problems[0]
        assert found.here == ["id-0", "id-1"]


@pytest.mark.spec("E2", "S16")
async def test_a_preview_reads_the_same_and_keeps_nothing(entra, graph):
    graph.add("users", user(1), user(2), user(3))
    await entra.read()
    graph.change("users", "id-1", surname="Moe")
    graph.remove("users", "id-2")
    graph.add("users", user(4))
    before = (await entra.mirror(), await entra.directory())
    seen = await entra.read(keeps=False)
    assert (await entra.mirror(), await entra.directory()) == before
    kept = await entra.read()
    assert seen.entries == kept.entries
    assert seen.report == kept.report
    assert seen.here == ["id-1", "id-3", "id-4"]


@pytest.mark.spec("E2")
async def test_changes_of_a_mirror_that_was_lost_are_not_gone_on_from(entra, graph):
    graph.add("users", user(1), user(2))
    await entra.read()
    for key in await entra.mirror():
        await entra.mongo.db["directory_mirror"].delete_one({"external_id": key})
    graph.change("users", "id-1", surname="Moe")
    assert (await entra.read()).here == ["id-1", "id-2"]
    await entra.mongo.db["directory_mirror"].delete_many({})
    assert (await entra.read()).here == ["id-1", "id-2"]


@pytest.mark.spec("E2")
async def test_another_secret_goes_on_and_another_tenants_links_are_not_used(entra, graph):
    graph.add("users", user(1))
    await entra.read()
    graph.secret = "another"
    await entra.set_entra(client_secret="another")
    graph.asked.clear()
    await entra.read()
    assert not [path for path in graph.paths("/users/delta") if "$select" in path]
    await entra.set_entra(client_secret="another", cloud="usgov")
    graph.fail("/11111111", 400, after=1)  # the token is asked for with that cloud's own scope, which the fake refuses
    with pytest.raises(SourceFailed):
        await entra.read()


@pytest.mark.spec("E2")
async def test_a_reading_that_was_called_off_ends_while_it_waits(entra, graph):
    graph.add("users", user(1))
    graph.fail("/users/delta", 429, times=99, Retry_After="3")
    calls = []

    def call_off():
        calls.append(1)
        if len(calls) > 1:
            raise Cancelled

    began = asyncio.get_running_loop().time()
    with pytest.raises(Cancelled):
        await entra.read(on_progress=call_off)
    assert asyncio.get_running_loop().time() - began < 2.5


@pytest.mark.spec("E2")
async def test_of_two_workers_the_later_writes_and_the_earlier_leaves_its_batch_and_link(entra, graph):
    mirror = Mirror(entra.mongo, entra.customer_id, "entra")
    earlier = await mirror.begin("run_1")
    await earlier.put([Mirrored("user:a", {"surname": "old"})])
    later = await mirror.begin("run_2")
    await later.put([Mirrored("user:a", {"surname": "new"})])
    with pytest.raises(Temporary):
        await earlier.put([Mirrored("user:a", {"surname": "older"})])
    with pytest.raises(Temporary):
        await earlier.finish([], [], {"users_link": "stale"})  # type: ignore[typeddict-item]
    assert (await entra.directory())["delta"] is None
    assert (await entra.mirror())["user:a"]["object"] == {"surname": "new"}


@pytest.mark.spec("E2")
async def test_the_last_batch_and_the_link_are_written_together_or_not_at_all(entra, monkeypatch):
    mirror = Mirror(entra.mongo, entra.customer_id, "entra")
    writing = await mirror.begin("run_1")
    update_one = type(mirror._directories).update_one

    async def fail(self, *arguments, **options):
        if self is mirror._directories:
            raise RuntimeError("power cut")
        return await update_one(self, *arguments, **options)

    monkeypatch.setattr(type(mirror._directories), "update_one", fail)
    with pytest.raises(RuntimeError):
        await writing.finish([Mirrored("user:a", {})], [], {"users_link": "next"})  # type: ignore[typeddict-item]
    assert await entra.mirror() == {}
