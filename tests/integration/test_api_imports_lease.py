"""A worker's hold on an import: kept while it works, given up when it stops, lost to others, and not taken for ever."""

import asyncio
import threading

import pytest

from postern_api.imports import reviewing
from postern_api.imports.applying import Application
from postern_api.imports.store import ImportStore
from postern_api.imports.worker import MAX_ATTEMPTS, ImportWorker
from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.mongo import PLATFORM
from tests.servers.api import api, customer, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.imports import die, dying, send, small_batches, state, text_of, work  # noqa: F401


@pytest.mark.spec("U3")
async def test_a_process_that_is_stopped_gives_its_work_up_at_once(api, customer, monkeypatch, small_batches):
    path = await send(api, customer, text_of(25))
    reached = asyncio.Event()

    async def hang(self, rows):
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(ImportStore, "add_rows", hang)
        task = asyncio.create_task(ImportWorker(api.resources).run())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (stopped,) = await api.all("imports")
    assert stopped["attempts"] == 0  # being stopped is no failure
    await work(api)
    assert (await state(api, path))["state"] == "reviewed"
    await api.post(f"{path}/apply", expect=202)
    real, reached = ImportStore.next_rows, asyncio.Event()

    async def hang_later(self, import_id, after, count):
        return await (hang(self, []) if after else real(self, import_id, after, count))

    with monkeypatch.context() as patch:
        patch.setattr(ImportStore, "next_rows", hang_later)
        task = asyncio.create_task(ImportWorker(api.resources).run())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (stopped,) = await api.all("imports")
    assert (stopped["attempts"], stopped["results"]["created"]) == (0, 10)
    await work(api)
    assert (await state(api, path))["state"] == "applied"


@pytest.mark.spec("U3")
async def test_a_review_that_is_stopped_waits_for_the_thread_that_reads_its_file(api, customer, monkeypatch):
    path = await send(api, customer, text_of(3))
    reading, may_end, ended = threading.Event(), threading.Event(), []

    def slow(rows):
        reading.set()
        may_end.wait(10)
        ended.append(reading)
        return []

    monkeypatch.setattr(reviewing, "_next_batch", slow)
    task = asyncio.create_task(ImportWorker(api.resources).work_once())
    assert await asyncio.to_thread(reading.wait, 10)
    task.cancel()
    await asyncio.sleep(0.1)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
    assert (await state(api, path))["state"] == "reviewing"


@pytest.mark.spec("U3")
async def test_a_failure_that_passes_is_tried_again_and_one_that_stays_ends_the_import(api, customer, monkeypatch):
    path = await send(api, customer, text_of(3))
    with monkeypatch.context() as patch:
        dying(patch, ImportStore, "add_rows", 1, Temporary("the database is away"))
        assert await ImportWorker(api.resources).work_once() is True
    assert (await state(api, path))["state"] == "reviewing"
    with api.later(minutes=1):
        await work(api)
    assert (await state(api, path))["state"] == "reviewed"
    imports = api.mongo.collection(Collections.IMPORTS, PLATFORM)
    path = await send(api, customer, text_of(3))
    await imports.update_one({"state": "reviewing"}, {"$set": {"attempts": MAX_ATTEMPTS}})
    await work(api)
    failed = await state(api, path)
    assert (failed["state"], failed["reason"][:9]) == ("failed", "It failed")


@pytest.mark.spec("U3")
async def test_a_file_that_kills_whoever_reads_it_is_read_so_many_times_and_no_more(api, customer, monkeypatch):
    path = await send(api, customer, text_of(3))
    for attempt in range(MAX_ATTEMPTS):
        with api.later(minutes=2 * attempt):
            await die(api, monkeypatch, ImportStore, "add_rows", 1)
    with api.later(minutes=2 * MAX_ATTEMPTS):
        await work(api)
    failed = await state(api, path)
    assert (failed["state"], failed["reason"][:9]) == ("failed", "It failed")


@pytest.mark.spec("U3")
async def test_a_slow_review_keeps_its_lease_and_ends_where_that_is_lost(api, customer, monkeypatch):
    monkeypatch.setattr("postern_api.imports.lease.BEAT_SECONDS", 0.05)
    path, owners = await send(api, customer, text_of(3)), []
    imports = api.mongo.collection(Collections.IMPORTS, PLATFORM)

    async def slow(self, rows):
        before = (await imports.find_one({}))["lease_until"]
        await asyncio.sleep(0.3)
        owners.append((await imports.find_one({}))["lease_until"] > before)
        await imports.update_one({}, {"$set": {"lease_owner": "another"}})
        await asyncio.sleep(10)

    monkeypatch.setattr(ImportStore, "add_rows", slow)
    began = asyncio.get_running_loop().time()
    assert await ImportWorker(api.resources).work_once() is True
    assert owners == [True]
    assert asyncio.get_running_loop().time() - began < 5
    assert (await state(api, path))["state"] == "reviewing"


@pytest.mark.spec("U3")
async def test_a_review_that_takes_too_long_ends_with_that(place, monkeypatch):
    async def for_ever(self, rows):
        await asyncio.sleep(60)

    monkeypatch.setattr(ImportStore, "add_rows", for_ever)
    async with running_api(place, api_import_review_seconds=1.0) as api:
        customer = await api.customer()
        await api.verified(customer, "acme.com")
        path = await send(api, customer, text_of(3))
        await ImportWorker(api.resources).work_once()
        failed = await state(api, path)
        assert (failed["state"], failed["reason"]) == ("failed", "Reading took longer than 1 seconds. Split the file.")


@pytest.mark.spec("U3")
async def test_a_worker_whose_lease_went_to_another_changes_nothing_more(api, customer, monkeypatch, small_batches):
    path = await send(api, customer, text_of(25))
    await work(api)
    await api.post(f"{path}/apply", expect=202)
    real = Application._apply

    async def late(self, rows):
        with monkeypatch.context() as patch, api.later(minutes=2):
            patch.setattr(Application, "_apply", real)
            await work(api)
        await real(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Application, "_apply", late)
        await ImportWorker(api.resources).work_once()
    done = await state(api, path)
    assert done["state"] == "applied"
    assert done["results"] == {"created": 25, "updated": 0, "stale": 0, "left_out": 0}
    assert len(await api.events("UserAdded")) == 25
