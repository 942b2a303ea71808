"""Imports in the background: taken over after a crash, without a double effect; exports; bounds of uploads."""

import asyncio
import io

import pytest

from postern_api.imports import applying, reviewing
from postern_api.imports.applying import Application
from postern_api.imports.export import sample_csv, sample_xlsx
from postern_api.imports.rules.rows import export_header
from postern_api.imports.store import ImportStore, PeopleStore
from postern_api.imports.table import Table, TextSource
from postern_api.imports.workbook import WorkbookSource
from postern_api.imports.workbook_writer import MEDIA_TYPE
from postern_api.imports.worker import MAX_ATTEMPTS, ImportWorker
from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.mongo import PLATFORM
from tests.servers.api import TOKEN, api, place, prepared, running_api  # noqa: F401 - fixtures

CSV = {"Content-Type": "text/csv"}


class Died(BaseException):
    """A process that is killed: nothing of it runs any more."""


@pytest.fixture
async def customer(api):
    path = await api.customer()
    await api.verified(path, "acme.com")
    return path


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(reviewing, "BATCH", 10)
    monkeypatch.setattr(applying, "BATCH", 10)


def text_of(count):
    return "email,first_name\n" + "".join(f"user{number}@acme.com,User {number}\n" for number in range(count))


async def send(api, customer, text):
    made = await api.post(f"{customer}/imports", content=text.encode(), headers=CSV, expect=202)
    return made.headers["Location"]


async def state(api, path):
    return (await api.get(path, expect=200)).json()


async def work(api):
    while await ImportWorker(api.resources).work_once():
        pass


def dying(monkeypatch, kind, name, calls, error=Died):
    """Let the process die in the given call of a method, without giving its lease up."""
    real, seen = getattr(kind, name), []

    async def method(self, *arguments, **options):
        seen.append(name)
        if len(seen) == calls:
            raise error
        return await real(self, *arguments, **options)

    async def release(self, *_, **__):
        """The dead give nothing up."""

    monkeypatch.setattr(kind, name, method)
    if error is Died:
        monkeypatch.setattr("postern_api.imports.store.LeaseStore.release", release)


async def die(api, monkeypatch, kind, name, calls):
    with monkeypatch.context() as patch:
        dying(patch, kind, name, calls)
        with pytest.raises(Died):
            await ImportWorker(api.resources).work_once()


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
    await work(api)
    assert (await state(api, path))["state"] == "reviewed"


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
async def test_an_export_that_is_imported_changes_nothing(api, customer):
    site = {"description": "=London", "servers": [{"host": "127.0.0.9"}]}
    site_id = (await api.post(f"{customer}/sites", site, expect=201)).json()["id"]
    people = [
        {"email": "o'brien@acme.com", "first_name": "=1+1", "last_name": "O'Brien", "mobile": "+44 7700 900000"},
        {"email": "ann@acme.com", "first_name": "Zoë", "last_name": "", "aliases": ["b@acme.com", "a@acme.com"]},
        {"email": "z@acme.com", "first_name": "@x", "last_name": "'=y", "notes": "one\n=two", "site_id": site_id},
    ]
    for one in people:
        await api.post(f"{customer}/users", one, expect=201)
    users = api.mongo.collection(Collections.USERS, PLATFORM)
    list_of_theirs = (await users.find_one({"email": "ann@acme.com"})) | {"_id": "usr_list", "kind": "list"}
    await users.insert_one(list_of_theirs | {"email": "list@acme.com", "email_key": "list@acme.com"})
    answer = await api.get(f"{customer}/users/export", expect=200)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="users.csv"'
    header = ",".join(f'"{name}"' for name in export_header(2))
    assert answer.content.startswith(b"\xef\xbb\xbf" + header.encode())
    assert "'=1+1" in answer.text
    assert "'=London" in answer.text
    assert "list@acme.com" not in answer.text
    book = await api.get(f"{customer}/users/export?format=xlsx", expect=200)
    for content, kind in ((answer.content, "text/csv"), (book.content, MEDIA_TYPE)):
        made = await api.post(f"{customer}/imports", content=content, headers={"Content-Type": kind}, expect=202)
        await work(api)
        imported = await state(api, made.headers["Location"])
        assert imported["counts"] == {"create": 0, "update": 0, "unchanged": 3, "skipped": 0, "error": 0}
        assert imported["warnings"] == []
    only = await api.get(f"{customer}/users/export?source=csv", expect=200)
    assert only.text.count("\r\n") == 1
    await api.get(f"{customer}/users/export?format=pdf", expect=422)


@pytest.mark.spec("U3")
async def test_samples_are_there_for_everybody(api):
    for name, source, content in (("csv", TextSource, sample_csv()), ("xlsx", WorkbookSource, sample_xlsx())):
        answer = await api.get(f"/v1/samples/users.{name}", token=None, expect=200)
        assert answer.content == content
        rows = list(Table(source(io.BytesIO(answer.content))).rows())
        assert len(rows) == 3
        assert not any(row.faults for row in rows)


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
