"""Imports in the background: taken over after a crash, without a double effect; exports; bounds of uploads."""

import pytest

from postern_api.imports import reviewing
from postern_api.imports.applying import Application
from postern_api.imports.store import ImportStore, PeopleStore
from postern_api.imports.worker import ImportWorker
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import TOKEN, api, customer, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.imports import CSV, die, send, small_batches, state, text_of, work  # noqa: F401


@pytest.mark.spec("U3")
async def test_a_review_is_taken_over_from_a_process_that_died(api, customer, monkeypatch, small_batches):
    path = await send(api, customer, text_of(35))
    await die(api, monkeypatch, ImportStore, "add_rows", 3)
    half = await state(api, path)
    assert (half["state"], half["rows"]) == ("reviewing", 30)
    assert await ImportWorker(api.resources).work_once() is False  # the lease of the dead still holds
    with api.later(minutes=2):
        await work(api)
    whole = await state(api, path)
    assert (whole["state"], whole["counts"]["create"]) == ("reviewed", 35)
    assert len((await api.get(f"{path}/rows?limit=200")).json()["items"]) == 35
    assert await api.all("import_chunks") == []


@pytest.mark.spec("U3")
@pytest.mark.parametrize("calls", [1, 2, 4])
async def test_an_application_goes_on_after_a_crash_and_adds_nobody_twice(
    api, customer, monkeypatch, small_batches, calls
):
    path = await send(api, customer, text_of(35))
    await work(api)
    await api.post(f"{path}/apply", expect=202)
    await die(api, monkeypatch, Application, "_apply", calls)
    assert len(await api.all("users")) == 10 * (calls - 1)
    assert (await state(api, path))["results"]["created"] == 10 * (calls - 1)
    with api.later(minutes=2):
        await work(api)
    done = await state(api, path)
    assert (done["state"], done["results"]["created"]) == ("applied", 35)
    users = await api.all("users")
    assert sorted(user["email"] for user in users) == sorted(f"user{number}@acme.com" for number in range(35))
    assert sorted(event["subject"] for event in await api.events("UserAdded")) == sorted(u["_id"] for u in users)
    assert len(await api.all("addresses")) == 35


@pytest.mark.spec("U3")
async def test_a_crash_between_commit_and_the_next_step_repeats_nothing(api, customer, monkeypatch, small_batches):
    path = await send(api, customer, text_of(25))
    await work(api)
    await api.post(f"{path}/apply", expect=202)
    await die(api, monkeypatch, ImportStore, "next_rows", 2)
    with api.later(minutes=2):
        await work(api)
    assert (await state(api, path))["results"] == {"created": 25, "updated": 0, "stale": 0, "left_out": 0}
    assert len(await api.events("UserAdded")) == 25


@pytest.mark.spec("U3", "U4")
async def test_an_address_that_is_taken_within_the_same_moment_leaves_out_its_row_alone(api, customer, monkeypatch):
    path = await send(api, customer, text_of(5))
    await work(api)
    taker = {"email": "eve@acme.com", "first_name": "", "last_name": "", "aliases": ["user3@acme.com"]}
    await api.post(f"{customer}/users", taker, expect=201)
    await api.post(f"{path}/apply", expect=202)

    async def nobody_yet(self, keys, session=None):
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(PeopleStore, "owners", nobody_yet)
        await work(api)
    assert (await state(api, path))["results"] == {"created": 4, "updated": 0, "stale": 1, "left_out": 0}
    (row,) = (await api.get(f"{path}/rows?result=stale")).json()["items"]
    assert (row["email"], row["result_reason"]) == ("user3@acme.com", "An address is in use since the review.")


@pytest.mark.spec("U3")
async def test_an_import_that_is_forgotten_while_it_is_reviewed_leaves_nothing(api, customer, monkeypatch):
    path = await send(api, customer, text_of(3))
    real = ImportStore.advance

    async def forgotten_before(self, *arguments, **options):
        await api.delete(path)
        return await real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ImportStore, "advance", forgotten_before)
        await ImportWorker(api.resources).work_once()
    await api.get(path, expect=404)
    for name in ("imports", "import_rows", "import_chunks", "users"):
        assert await api.all(name) == []


@pytest.mark.spec("U3", "T9")
async def test_nothing_more_is_saved_for_a_customer_that_was_suspended_meanwhile(api, customer):
    path = await send(api, customer, text_of(3))
    await work(api)
    await api.post(f"{path}/apply", expect=202)
    await api.mongo.collection(Collections.CUSTOMERS, PLATFORM).update_one({}, {"$set": {"state": "suspended"}})
    await work(api)
    assert ((await state(api, path))["state"], await api.all("users")) == ("failed", [])


@pytest.mark.spec("U3")
async def test_what_is_kept_of_a_file_is_bounded_however_much_its_rows_make_of_it(
    api, customer, monkeypatch, small_batches
):
    monkeypatch.setattr(reviewing, "MAX_STORED", 30_000)
    path = await send(api, customer, text_of(35))
    await work(api)
    assert (await state(api, path))["state"] == "reviewed"
    path = await send(api, customer, "email,alias1,alias2,alias3,alias4\n" + "?,?,?,?,?\n" * 60)
    await work(api)
    failed = await state(api, path)
    assert failed["state"] == "failed"
    assert failed["reason"] == "What is to be kept of its rows is more than 30000 octets. Split the file."
    assert (await api.get(f"{path}/rows", expect=200)).json()["items"] == []
    assert await api.all("import_chunks") == []


@pytest.mark.spec("U3")
async def test_an_upload_may_be_larger_than_other_bodies_but_not_without_bound(place):
    async with running_api(place, api_max_import_bytes=2 * 1024 * 1024, api_max_body_bytes=4096) as api:
        customer = await api.customer()
        large = b"email\n" + b"x@acme.com\n" * 100_000
        await api.post(f"{customer}/imports", content=large, headers=CSV, expect=202)
        refused = await api.post(f"{customer}/imports", content=large * 3, headers=CSV, expect=413)
        assert "2097152" in refused.json()["detail"]

        async def pieces():
            for _ in range(30):
                yield b"x@acme.com\n" * 10_000

        await api.post(f"{customer}/imports", content=pieces(), headers=CSV, expect=413)
        await api.post(f"{customer}/users", content=b"{" + b" " * 5000, expect=413)
        assert len(await api.all("imports")) == 1


@pytest.mark.spec("U3")
async def test_an_upload_under_a_key_is_taken_once(api, customer):
    headers = CSV | {"Idempotency-Key": "one"}
    first = await api.post(f"{customer}/imports", content=b"a@acme.com\n", headers=headers, expect=202)
    again = await api.post(f"{customer}/imports", content=b"a@acme.com\n", headers=headers, expect=202)
    assert again.json()["id"] == first.json()["id"]
    await api.post(f"{customer}/imports", content=b"b@acme.com\n", headers=headers, expect=422)
    assert len(await api.all("imports")) == 1


@pytest.mark.spec("U3")
async def test_a_form_needs_one_file_and_nothing_unknown(api, customer):
    async def form(**parts):
        answer = await api.client.post(f"{customer}/imports", headers={"Authorization": f"Bearer {TOKEN}"}, **parts)
        return answer.status_code, answer.json()

    file = ("users.csv", b"a@acme.com\n", "text/csv")
    assert (await form(files={"file": file}))[0] == 202
    for parts, pointer in (
        ({"files": {"upload": file}}, "/upload"),
        ({"files": {"file": file}, "data": {"existing": "both"}}, "/existing"),
        ({"files": {"existing": (None, b"skip")}}, "/file"),
        ({"files": [("file", file), ("file", file)]}, "/file"),
    ):
        status, body = await form(**parts)
        assert (status, body["errors"][0]["pointer"]) == (422, pointer)
    headers = {"Content-Type": "multipart/form-data"}
    await api.post(f"{customer}/imports", content=b"--x", headers=headers, expect=422)
    await api.post(f"{customer}/imports", content=b"{}", headers={"Content-Type": "image/png"}, expect=415)


@pytest.mark.spec("U3")
async def test_a_customer_keeps_so_many_imports_at_once(place):
    async with running_api(place, api_max_imports=1) as api:
        customer = await api.customer()
        path = await send(api, customer, "a@acme.com\n")
        refused = await api.post(f"{customer}/imports", content=b"b@acme.com\n", headers=CSV, expect=409)
        assert refused.json()["code"] == "limit-reached"
        assert len(await api.all("import_chunks")) == 1
        await api.delete(path, expect=204)
        await send(api, customer, "b@acme.com\n")
