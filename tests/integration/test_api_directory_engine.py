"""The API and the engine behind it on one database: what an administrator sees and decides, and what comes of it."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

import pytest

from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import set_up, settings
from tests.servers.sync_source import ScriptedSource, Worker, entry, people, sync_settings

DOMAIN = "acme.com"


class Story:
    """A customer, a scripted directory, and a worker that reads it as soon as a run is asked for."""

    def __init__(self, api, customer, place):
        self.api, self.customer = api, customer
        self.source = ScriptedSource()
        self.worker = Worker(api.mongo, sync_settings(*place), self.source)

    @asynccontextmanager
    async def working(self):
        task = asyncio.create_task(self.worker.runner.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def ask(self, kind="sync"):
        """Have a run done; what the API shows of it."""
        run = (await self.api.post(f"{self.customer}/directory/{kind}", expect=202)).json()
        await self.worker.work()
        return (await self.api.get(f"{self.customer}/directory/runs/{run['id']}", expect=200)).json()

    async def approve(self, run, **options):
        path = f"{self.customer}/directory/runs/{run['id']}/approve"
        async with self.working():
            return await self.api.post(path, {"plan_hash": run["plan_hash"]}, **options)

    async def plan(self, run, query=""):
        path = f"{self.customer}/directory/runs/{run['id']}/plan?limit=200{query}"
        return (await self.api.get(path, expect=200)).json()["items"]

    async def users(self, query=""):
        path = f"{self.customer}/users?limit=200{query}"
        return [one["email"] for one in (await self.api.get(path, expect=200)).json()["items"]]

    async def waiting(self):
        return (await self.api.get(f"{self.customer}/directory", expect=200)).json()["waiting_run_id"]

    async def conflicts(self):
        path = f"{self.customer}/directory/conflicts?limit=200"
        return (await self.api.get(path, expect=200)).json()["items"]


@pytest.fixture
async def story(api, place):
    customer = await api.customer()
    await api.verified(customer, DOMAIN)
    await set_up(api, customer)
    await asyncio.sleep(0.002)  # settings are older than the runs by a tick of the database's clock
    return Story(api, customer, place)


@pytest.mark.spec("S16", "S17")
async def test_a_preview_is_looked_at_approved_and_applied(story):
    story.source.entries = people(3, DOMAIN)
    preview = await story.ask("preview")
    assert (preview["state"], preview["kind"], preview["provider"]) == ("completed", "preview", "ldap")
    assert preview["plan_hash"]
    assert (preview["counts"]["read"], preview["progress"]["read"]) == (3, 3)
    assert [(item["action"], item["state"]) for item in await story.plan(preview)] == [("add", "planned")] * 3
    assert await story.users() == []
    approval = (await story.approve(preview, expect=202)).json()
    assert (approval["state"], approval["counts"]["added"]) == ("completed", 3)
    assert len(await story.users("&source=ldap")) == 3
    licences = (await story.api.get(f"{story.customer}/licences", expect=200)).json()
    assert licences["used"] == 3


@pytest.mark.spec("S16", "S13")
async def test_six_of_forty_vanish_and_go_only_when_it_was_approved(story):
    story.source.entries = people(40, DOMAIN)
    assert (await story.ask())["counts"]["added"] == 40
    story.source.entries = people(34, DOMAIN)
    held = await story.ask()
    assert (held["state"], held["held"], held["plan_part"]) == ("held", {"flag": 6}, "held")
    assert len(await story.plan(held, "&action=flag&state=held")) == 6
    assert await story.waiting() == held["id"]
    assert await story.conflicts() == []
    approval = (await story.approve(held, expect=202)).json()
    assert (approval["state"], approval["counts"]["flagged"]) == ("completed", 6)
    assert await story.waiting() is None
    path = f"{story.customer}/directory/runs"
    assert (await story.api.get(f"{path}?state=held")).json()["items"] == []
    (approved,) = (await story.api.get(f"{path}?state=approved")).json()["items"]
    assert (approved["id"], approved["approved_by"]) == (held["id"], approval["id"])
    gone = await story.conflicts()
    assert [one["reason"] for one in gone] == ["absent"] * 6
    one, two = gone[:2]
    for action, user in (("ignore", one), ("delete", two)):
        body = {"action": action, "user_ids": [user["user_id"]]}
        await story.api.post(f"{story.customer}/directory/conflicts/actions", body, expect=200)
    # Both come back: one as they were, one restored under the old id.
    story.source.entries = people(36, DOMAIN)
    assert (await story.ask())["state"] == "completed"
    left = {conflict["user_id"] for conflict in await story.conflicts()}
    assert left == {conflict["user_id"] for conflict in gone[2:]}
    path = f"{story.customer}/users/{two['user_id']}"
    assert (await story.api.get(path, expect=200)).json()["state"] == "active"


@pytest.mark.spec("S16")
async def test_a_plan_is_refused_when_the_directory_has_moved(story):
    story.source.entries = people(40, DOMAIN)
    await story.ask()
    story.source.entries = people(34, DOMAIN)
    held = await story.ask()
    story.source.entries = people(33, DOMAIN)
    refused = (await story.approve(held, expect=409)).json()
    assert refused["code"] == "plan-stale"
    assert await story.conflicts() == []


@pytest.mark.spec("S16")
async def test_no_approval_overrides_an_incomplete_read(story):
    story.source.entries = people(40, DOMAIN)
    await story.ask()
    story.source.entries = people(34, DOMAIN)
    held = await story.ask()
    story.source.report = {"problems": ("connection_lost: page 2",)}
    approval = (await story.approve(held, expect=202)).json()
    assert approval["state"] == "failed"
    assert "connection_lost" in approval["reason"]
    assert await story.conflicts() == []


@pytest.mark.spec("S1", "S16")
async def test_after_a_change_of_provider_whoever_is_missing_is_held_and_becomes_a_conflict_when_approved(story):
    story.source.entries = people(40, DOMAIN)
    await story.ask()
    path = f"{story.customer}/directory"
    await story.api.put(path, settings("entra"), expect=409)
    await story.api.put(f"{path}?confirm=true", settings("entra"), expect=200)
    await asyncio.sleep(0.002)
    story.source.entries = people(39, DOMAIN)
    held = await story.ask()
    assert (held["state"], held["provider"], held["held"]) == ("held", "entra", {"flag": 1})
    assert "provider_switch" in held["proof"]["holds"]
    assert (await story.approve(held, expect=202)).json()["counts"]["flagged"] == 1
    assert [one["reason"] for one in await story.conflicts()] == ["provider_switch"]


@pytest.mark.spec("S12")
async def test_1h_10_exceptions_and_additions_are_kept_to(story):
    directory = f"{story.customer}/directory"
    await story.api.post(f"{directory}/exceptions", {"kind": "user", "external_id": "id-000001"}, expect=201)
    await story.api.post(f"{directory}/additions", {"address": f"desk@{DOMAIN}"}, expect=201)
    story.source.entries = people(3, DOMAIN)
    await story.ask()
    assert await story.users("&source=ldap") == [f"desk@{DOMAIN}", f"u000000@{DOMAIN}", f"u000002@{DOMAIN}"]
    again = await story.ask()
    assert (again["state"], again["counts"]["flagged"]) == ("completed", 0)
    assert "exception_unmatched" not in again["skipped"]


@pytest.mark.spec("S12", "S17")
async def test_an_exception_that_fits_nothing_is_told(story):
    path = f"{story.customer}/directory/exceptions"
    for body in (
        {"kind": "user", "external_id": "ID-000001", "label": "Ann"}, {"kind": "alias", "address": f"x@{DOMAIN}"},
        {"kind": "user", "external_id": "id-000002"}, {"kind": "alias", "address": f"y@{DOMAIN}"},
    ):  # fmt: skip
        await story.api.post(path, body, expect=201)
    story.source.entries = [*people(3, DOMAIN), entry("a", f"a@{DOMAIN}", f"y@{DOMAIN}")]
    run = await story.ask("preview")
    told = run["skipped"]["exception_unmatched"]
    assert [(one["name"], one["address"]) for one in told["examples"]] == [("Ann", ""), (f"x@{DOMAIN}",) * 2]
    assert "ID-000001" in told["examples"][0]["detail"]
    # The one that was left out is the only entry that was.
    assert (told["count"], run["counts"]["skipped"]) == (2, 1)
    # What was not read whole does not tell what is missing.
    story.source.report = {"problems": ("size_limit: 3",)}
    assert "exception_unmatched" not in (await story.ask("preview"))["skipped"]


@pytest.mark.spec("S14")
async def test_while_switched_off_no_conflicts_arise(story):
    story.source.entries = people(3, DOMAIN)
    await story.ask()
    waiting = (await story.api.post(f"{story.customer}/directory/sync", expect=202)).json()
    await story.api.delete(f"{story.customer}/directory", expect=204)
    story.source.entries = people(1, DOMAIN)
    await story.worker.work()
    run = await story.api.get(f"{story.customer}/directory/runs/{waiting['id']}", expect=200)
    assert run.json()["state"] == "cancelled"
    assert len(await story.users()) == 3
    assert await story.conflicts() == []
