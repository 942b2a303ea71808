"""Runs over HTTP: asked for, looked at, previewed, approved by the hash of a plan, rejected, called off."""

import asyncio
from datetime import timedelta

import pytest

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import ending_approvals, put_held, put_run, set_up, settings
from tests.servers.waiting import eventually_async

HASH = "a" * 32


@pytest.fixture
async def customer(api):
    """A customer whose directory is set up."""
    path = await api.customer()
    await set_up(api, path)
    await asyncio.sleep(0.002)  # settings are older than the runs by a tick of the database's clock
    return path


async def approve(api, customer, run, plan_hash=HASH, **options):
    return await api.post(f"{customer}/directory/runs/{run['_id']}/approve", {"plan_hash": plan_hash}, **options)


def quick(api):
    """Nobody waits long for an approval that nothing comes of."""
    object.__setattr__(api.resources, "settings", api.resources.settings.model_copy(update=WAIT))


WAIT = {"api_approval_wait_seconds": 0.2}


@pytest.mark.spec("S8", "S16")
async def test_runs_are_asked_for_one_at_a_time_whatever_their_kind(api, customer):
    answer = await api.post(f"{customer}/directory/preview", expect=202)
    preview = answer.json()
    assert answer.headers["Location"] == f"{customer}/directory/runs/{preview['id']}"
    assert (preview["kind"], preview["state"], preview["phase"]) == ("preview", "requested", "waiting")
    assert preview["plan_hash"] is None
    for kind in ("sync", "preview"):
        refused = (await api.post(f"{customer}/directory/{kind}", expect=409)).json()
        assert refused["code"] == "sync-running"
        assert refused["existing"]["id"] == preview["id"]
    assert [event["data"]["run_id"] for event in await api.events("SyncRequested")] == [preview["id"]]
    # Another customer's runs are none of this one's.
    other = await api.customer()
    await set_up(api, other)
    await api.post(f"{other}/directory/sync", expect=202)


@pytest.mark.spec("S8", "S14")
@pytest.mark.parametrize("kind", ["sync", "preview"])
async def test_no_run_is_asked_for_where_there_is_nothing_to_read(api, customer, kind):
    unknown = await api.post(f"{await api.customer()}/directory/{kind}", expect=409)
    await api.delete(f"{customer}/directory", expect=204)
    off = await api.post(f"{customer}/directory/{kind}", expect=409)
    assert (unknown.json()["code"], off.json()["code"]) == ("directory-not-configured", "directory-off")
    assert await api.all("sync_runs") == []
    assert await api.events("SyncRequested") == []


@pytest.mark.spec("S8", "T9")
async def test_no_run_is_asked_for_while_the_customer_is_suspended_whoever_asks(api, customer):
    held = await put_held(api, customer)
    admin = await api.token_for(customer)
    await api.mongo.collection(Collections.CUSTOMERS, PLATFORM).update_one({}, {"$set": {"state": "suspended"}})
    for options in ({}, {"token": admin}):
        for kind in ("sync", "preview"):
            refused = await api.post(f"{customer}/directory/{kind}", expect=403, **options)
            assert refused.json()["code"] == "customer-suspended"
        assert (await approve(api, customer, held, expect=403, **options)).json()["code"] == "customer-suspended"
    assert await api.events("SyncRequested") == []
    await api.mongo.collection(Collections.CUSTOMERS, PLATFORM).update_one({}, {"$set": {"state": "active"}})
    await api.post(f"{customer}/directory/sync", expect=202)


@pytest.mark.spec("S8")
async def test_many_who_ask_at_once_get_one_run(api, customer):
    answers = await asyncio.gather(*(api.post(f"{customer}/directory/sync") for _ in range(5)))
    assert sorted(one.status_code for one in answers) == [202, 409, 409, 409, 409]


@pytest.mark.spec("S8")
async def test_a_run_of_the_schedule_is_seen_too(api, customer):
    run = await put_run(api, customer, state="running", is_open=True)
    refused = (await api.post(f"{customer}/directory/sync", expect=409)).json()
    assert (refused["code"], refused["existing"]["id"]) == ("sync-running", run["_id"])
    assert len(await api.all("sync_runs")) == 1


@pytest.mark.spec("S17")
async def test_a_run_shows_all_that_its_record_keeps(api, customer):
    skipped = {"duplicate_primary": {"count": 2, "examples": [{"name": "cn=a", "address": "a@x.com", "other": "cn=b"}]}}
    proof = {"is_complete": False, "reasons": ["size_limit: 1000"], "holds": []}
    run = await put_run(api, customer, state="incomplete", reason="size_limit", skipped=skipped, proof=proof)
    answer = await api.get(f"{customer}/directory/runs/{run['_id']}", expect=200)
    shown = answer.json()
    assert answer.headers["ETag"].startswith('"3.')
    assert (shown["state"], shown["requested_by"], shown["reason"]) == ("incomplete", "schedule", "size_limit")
    assert shown["duration_seconds"] == 2.0
    assert shown["counts"]["read"] == 40
    assert shown["skipped"] == skipped
    assert shown["proof"] == proof
    assert shown["progress"] == {
        "what": None, "read": 40, "per_second": None, "total": None, "applied": 3, "items": 3,
    }  # fmt: skip
    assert not {"lease_owner", "lease_until", "is_open"} & shown.keys()


@pytest.mark.spec("S17")
async def test_runs_are_listed_newest_first_by_state_and_kind(api, customer):
    made = [
        await put_run(api, customer, state=state, kind=kind)
        for state, kind in (("completed", "sync"), ("failed", "sync"), ("completed", "preview"))
    ]

    async def listed(query=""):
        found = (await api.get(f"{customer}/directory/runs{query}", expect=200)).json()
        return [made.index(next(run for run in made if run["_id"] == one["id"])) for one in found["items"]]

    assert await listed() == [2, 1, 0]
    assert await listed("?sort=created_at") == [0, 1, 2]
    assert await listed("?state=completed") == [2, 0]
    assert await listed("?kind=preview&state=completed") == [2]
    await api.get(f"{customer}/directory/runs?kind=magic", expect=422)


@pytest.mark.spec("S16")
async def test_a_plan_is_read_in_pages_with_what_stood_there_before(api, customer):
    run = await put_held(api, customer)
    path = f"{customer}/directory/runs/{run['_id']}/plan"
    first = (await api.get(f"{path}?limit=3", expect=200)).json()
    assert [item["seq"] for item in first["items"]] == [0, 1, 2]
    rest = (await api.get(f"{path}?limit=200&cursor={first['next_cursor']}", expect=200)).json()
    assert [item["seq"] for item in rest["items"]] == [3, 4, 5, 6]
    assert rest["next_cursor"] is None
    item = first["items"][1]
    assert (item["action"], item["reason"], item["destructive"], item["state"]) == ("flag", "absent", True, "held")
    assert (item["before"], item["change"]) == ({"state": "active"}, {"state": "flagged"})
    held = (await api.get(f"{path}?state=held&action=flag&search=USER3", expect=200)).json()
    assert [item["label"] for item in held["items"]] == ["user3@acme.com"]
    assert (await api.get(f"{path}?sort=-seq&limit=1")).json()["items"][0]["seq"] == 6
    await api.get(f"{customer}/directory/runs/run_x/plan", expect=404)


@pytest.mark.spec("S16")
async def test_an_approved_plan_becomes_a_run_of_its_own(api, customer):
    run = await put_held(api, customer)
    async with ending_approvals(api, state="completed", counts={"flagged": 6}):
        answer = await approve(api, customer, run, expect=202)
    approval = answer.json()
    assert answer.headers["Location"] == f"{customer}/directory/runs/{approval['id']}"
    assert (approval["kind"], approval["state"], approval["approves"]) == ("approval", "completed", run["_id"])
    assert approval["counts"] == {"flagged": 6}
    stored = next(one for one in await api.all("sync_runs") if one["kind"] == "approval")
    assert stored["approved_hash"] == HASH
    assert (await api.events("SyncRequested"))[-1]["data"]["run_id"] == approval["id"]
    # Done once: what was approved is no longer what waits.
    assert (await approve(api, customer, run, expect=409)).json()["code"] == "plan-stale"


@pytest.mark.spec("S16")
async def test_a_preview_that_has_ended_can_be_approved(api, customer):
    preview = await put_held(api, customer, kind="preview", state="completed", plan_part="all", held=None)
    async with ending_approvals(api, state="completed"):
        approval = (await approve(api, customer, preview, expect=202)).json()
    assert approval["approves"] == preview["_id"]


@pytest.mark.spec("S16")
async def test_an_approval_that_takes_longer_than_the_request_is_answered_with_the_run(api, customer):
    quick(api)
    run = await put_held(api, customer)
    approval = (await approve(api, customer, run, expect=202)).json()
    assert approval["state"] == "requested"
    again = (await approve(api, customer, run, expect=409)).json()
    assert (again["code"], again["existing"]["id"]) == ("sync-running", approval["id"])


@pytest.mark.spec("S16")
async def test_an_approval_of_a_directory_that_has_moved_is_refused(api, customer):
    run = await put_held(api, customer)
    async with ending_approvals(api, state="failed", reason="plan-stale"):
        assert (await approve(api, customer, run, expect=409)).json()["code"] == "plan-stale"
    # It is known to be stale from now on.
    assert (await approve(api, customer, run, expect=409)).json()["code"] == "plan-stale"


@pytest.mark.spec("S16")
async def test_the_same_approval_again_gets_the_same_refusal(api, customer):
    run, key = await put_held(api, customer), {"Idempotency-Key": "approval-1"}
    async with ending_approvals(api, state="failed", reason="plan-stale"):
        first = await approve(api, customer, run, headers=key, expect=409)
    again = await approve(api, customer, run, headers=key, expect=409)
    assert (again.json(), again.headers["Idempotent-Replay"]) == (first.json(), "true")
    assert again.headers["Content-Type"] == first.headers["Content-Type"] == "application/problem+json"
    assert (await approve(api, customer, run, expect=409)).json()["code"] == "plan-stale"
    assert len([one for one in await api.all("sync_runs") if one["kind"] == "approval"]) == 1


@pytest.mark.spec("S16")
@pytest.mark.parametrize("ended", [{"state": "failed", "reason": "connect"}, {"state": "cancelled"}])
async def test_an_approval_that_could_not_read_can_be_given_again(api, customer, ended):
    run = await put_held(api, customer)
    async with ending_approvals(api, **ended):
        first = (await approve(api, customer, run, expect=202)).json()
        assert first["state"] == ended["state"]
        second = (await approve(api, customer, run, expect=202)).json()
    assert second["id"] != first["id"]


@pytest.mark.spec("S16")
async def test_another_hash_is_no_approval(api, customer):
    run = await put_held(api, customer)
    for wrong in ("b" * 32, HASH.upper(), HASH[:8]):
        assert (await approve(api, customer, run, wrong, expect=409)).json()["code"] == "plan-stale"
    for body in ({}, {"plan_hash": ""}, {"plan_hash": None}, {"plan_hash": HASH, "force": True}):
        await api.post(f"{customer}/directory/runs/{run['_id']}/approve", body, expect=422)
    assert [one["kind"] for one in await api.all("sync_runs")] == ["sync"]


@pytest.mark.spec("S16")
@pytest.mark.parametrize("state", ["completed", "held", "incomplete", "rejected"])
async def test_a_later_run_makes_a_plan_stale(api, customer, state):
    run = await put_held(api, customer)
    await put_run(api, customer, state=state)
    assert (await approve(api, customer, run, expect=409)).json()["code"] == "plan-stale"


@pytest.mark.spec("S16")
@pytest.mark.parametrize("state", ["approved", "superseded"])
async def test_a_plan_is_not_approved_again_once_it_is_settled(api, customer, state):
    run = await put_held(api, customer, state=state)
    assert (await approve(api, customer, run, expect=409)).json()["code"] == "plan-stale"
    refused = await api.post(f"{customer}/directory/runs/{run['_id']}/reject", expect=409)
    assert refused.json()["code"] == "wrong-state"


@pytest.mark.spec("S16")
async def test_a_look_at_the_directory_leaves_the_plan_that_waits_what_it_is(api, customer):
    run = await put_held(api, customer)
    await put_held(api, customer, kind="preview", state="completed", plan_part="all", held=None)
    async with ending_approvals(api, state="completed"):
        assert (await approve(api, customer, run, expect=202)).json()["approves"] == run["_id"]


@pytest.mark.spec("S16")
async def test_the_directory_tells_which_run_waits_for_a_decision(api, customer):
    path = f"{customer}/directory"

    async def shown():
        answer = await api.get(path, expect=200)
        return answer.json()["waiting_run_id"], answer.headers["ETag"]

    nothing, tag = await shown()
    run = await put_held(api, customer)
    waiting, other_tag = await shown()
    assert (nothing, waiting) == (None, run["_id"])
    assert other_tag != tag
    await api.post(f"{path}/runs/{run['_id']}/reject", expect=200)
    assert (await shown())[0] is None


@pytest.mark.spec("S16")
async def test_changed_settings_make_a_plan_stale(api, customer):
    now = api.mongo.clock.now()
    run = await put_held(api, customer, created_at=now - timedelta(minutes=2), started_at=now - timedelta(minutes=1))
    await api.put(f"{customer}/directory", settings(absent_runs=2), expect=200)
    assert (await api.get(f"{customer}/directory")).json()["waiting_run_id"] is None
    assert (await approve(api, customer, run, expect=409)).json()["code"] == "plan-stale"


@pytest.mark.spec("S14", "S16")
async def test_nothing_is_approved_while_synchronisation_is_off(api, customer):
    run = await put_held(api, customer)
    await api.delete(f"{customer}/directory", expect=204)
    assert (await approve(api, customer, run, expect=409)).json()["code"] == "plan-stale"
    other = await api.customer()
    unknown = await put_held(api, other)
    assert (await approve(api, other, unknown, expect=409)).json()["code"] == "plan-stale"


@pytest.mark.spec("S16")
async def test_only_what_waits_can_be_decided_on(api, customer):
    done = await put_run(api, customer, plan_hash=HASH)
    for word in ("approve", "reject"):
        body = {"plan_hash": HASH} if word == "approve" else None
        refused = await api.post(f"{customer}/directory/runs/{done['_id']}/{word}", body, expect=409)
        assert refused.json()["code"] == "wrong-state"
    unproven = await put_run(api, customer, kind="preview", state="incomplete", plan_hash=HASH)
    assert (await approve(api, customer, unproven, expect=409)).json()["code"] == "wrong-state"
    for word in ("approve", "reject", "cancel"):
        body = {"plan_hash": HASH} if word == "approve" else None
        await api.post(f"{customer}/directory/runs/run_x/{word}", body, expect=404)


@pytest.mark.spec("S16")
async def test_a_rejected_plan_is_not_applied(api, customer):
    run = await put_held(api, customer)
    path = f"{customer}/directory/runs/{run['_id']}"
    rejected = (await api.post(f"{path}/reject", expect=200)).json()
    assert rejected["state"] == "rejected"
    assert (await approve(api, customer, run, expect=409)).json()["code"] == "wrong-state"
    assert (await api.post(f"{path}/reject", expect=409)).json()["code"] == "wrong-state"
    # It can be looked at afterwards.
    assert len((await api.get(f"{path}/plan", expect=200)).json()["items"]) == 7
    (event,) = [one for one in await api.events("SettingsChanged") if one["data"]["resource"] == "directory-run"]
    assert event["data"]["resource_id"] == run["_id"]


@pytest.mark.spec("S17")
async def test_a_run_that_waits_is_called_off_at_once_and_another_can_be_asked_for(api, customer):
    run = (await api.post(f"{customer}/directory/sync", expect=202)).json()
    path = f"{customer}/directory/runs/{run['id']}"
    cancelled = (await api.post(f"{path}/cancel", expect=200)).json()
    assert (cancelled["state"], cancelled["phase"]) == ("cancelled", "ended")
    assert cancelled["finished_at"] is not None
    assert (await api.post(f"{path}/cancel", expect=409)).json()["code"] == "wrong-state"
    await api.post(f"{customer}/directory/sync", expect=202)


@pytest.mark.spec("S17")
async def test_a_run_that_has_begun_is_told_to_stop(api, customer):
    run = await put_run(api, customer, state="running", phase="reading", finished_at=None, is_open=True)
    path = f"{customer}/directory/runs/{run['_id']}"
    told = (await api.post(f"{path}/cancel", expect=200)).json()
    assert (told["state"], told["cancel_requested"], told["duration_seconds"]) == ("running", True, None)
    assert (await api.post(f"{customer}/directory/sync", expect=409)).json()["code"] == "sync-running"


@pytest.mark.spec("S16", "V3")
async def test_two_who_approve_at_once_start_one_run(api, customer):
    quick(api)
    run = await put_held(api, customer)
    answers = await asyncio.gather(*(approve(api, customer, run) for _ in range(4)))
    assert sorted(one.status_code for one in answers) == [202, 409, 409, 409]

    async def one_approval():
        return len([one for one in await api.all("sync_runs") if one["kind"] == "approval"]) == 1

    await eventually_async(one_approval)
