"""The whole way on a real directory: set up over HTTP, tested, looked at, previewed, synchronised, explained."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

import pytest

from postern_sync.questions.loop import Questions
from postern_sync.questions.store import QuestionStore
from postern_sync.sources import Sources
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.slapd import PASSWORD, Slapd, group, person, running
from tests.servers.sync_source import Worker, sync_settings
from tests.servers.waiting import eventually_async


@pytest.fixture(scope="module")
def slapd(farm, tmp_path_factory):
    part = Slapd(tmp_path_factory.mktemp("slapd"), name="slapd-api")
    part.load([person("ann"), person("bob"), person("eve", mail="eve@elsewhere.test"), group("staff", ["ann", "bob"])])
    with running(part, farm.processes):
        yield part


@asynccontextmanager
async def working(api, place):
    """Directory synchronisation's loops, with its real sources."""
    settings = sync_settings(*place, allow_networks="127.0.0.0/8,::1/128")
    sources = Sources(settings, api.resources.secrets, api.mongo)
    questions = Questions(QuestionStore(api.mongo), sources.answer, look=0.05)
    worker = Worker(api.mongo, settings, sources)
    tasks = [asyncio.create_task(part.run()) for part in (questions, worker.runner)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def ended(api, location):
    """The run once it has ended."""

    async def is_ended():
        return (await api.get(location, expect=200)).json()["phase"] == "ended"

    await eventually_async(is_ended)
    return (await api.get(location, expect=200)).json()


@pytest.mark.spec("L1", "S12", "S16", "S17", "S7")
async def test_a_directory_is_set_up_tested_previewed_and_synchronised(api, place, slapd):
    customer = await api.customer()
    await api.verified(customer, "demo.test")
    path = f"{customer}/directory"
    ldap = {**slapd.settings(), "password": PASSWORD}
    async with working(api, place):
        wrong = {"provider": "ldap", "ldap": {**ldap, "password": "wrong"}}
        failed = (await api.post(f"{path}/test", wrong, expect=200)).json()
        assert (failed["ok"], failed["steps"][-1]["step"], failed["steps"][-1]["ok"]) == (False, "bind", False)
        await api.call("PUT", path, {"provider": "ldap", "ldap": ldap}, expect=201)
        worked = (await api.post(f"{path}/test", expect=200)).json()
        assert (worked["ok"], worked["found"]) == (True, {"users": 3, "groups": 1})
        assert worked["certificate"]
        bob = (await api.get(f"{path}/entries?search=bob", expect=200)).json()["items"][0]
        assert bob["address"] == "bob@demo.test"
        left_out = {"kind": bob["kind"], "external_id": bob["external_id"], "label": bob["name"]}
        await api.post(f"{path}/exceptions", left_out, expect=201)
        preview = await ended(api, (await api.post(f"{path}/preview", expect=202)).headers["Location"])
        assert (preview["state"], (await api.get(f"{customer}/users")).json()["items"]) == ("completed", [])
        run = await ended(api, (await api.post(f"{path}/sync", expect=202)).headers["Location"])
    assert (run["state"], run["counts"]["added"]) == ("completed", 2)
    assert run["proof"]["is_complete"] is True
    assert run["skipped"]["primary_domain_unmanaged"]["examples"][0]["address"] == "eve@elsewhere.test"
    users = (await api.get(f"{customer}/users?kind=user", expect=200)).json()["items"]
    assert [(user["email"], user["source"]) for user in users] == [("ann@demo.test", "ldap")]
    (staff,) = (await api.get(f"{customer}/groups", expect=200)).json()["items"]
    members = (await api.get(f"{customer}/groups/{staff['id']}/members", expect=200)).json()["items"]
    assert (staff["name"], [member["email"] for member in members]) == ("staff", ["ann@demo.test"])
    shown = (await api.get(path, expect=200)).json()
    assert (shown["last_run_id"], shown["last_good"]["users"]) == (run["id"], 3)
    for text in (str(await api.all("sync_runs")), str(await api.all("plan_items")), str(await api.events())):
        assert PASSWORD not in text
