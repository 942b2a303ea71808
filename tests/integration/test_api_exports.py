"""Users as a file: as an import takes it back, of bounded cost; samples (SPEC U3)."""

import asyncio
import io
import threading
from types import SimpleNamespace

import pytest

from postern_api.imports import export
from postern_api.imports.export import sample_csv, sample_xlsx
from postern_api.imports.rules.rows import export_header
from postern_api.imports.table import Table, TextSource
from postern_api.imports.workbook import WorkbookSource
from postern_api.imports.workbook_writer import MEDIA_TYPE, write_workbook
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import api, customer, place, prepared, running_api  # noqa: F401 - fixtures
from tests.servers.imports import state, work


@pytest.fixture
def writing(monkeypatch):
    """Workbooks whose writing begins and then waits until it may end."""
    real, found = write_workbook, SimpleNamespace(begun=threading.Event(), may_end=threading.Event())

    def write(file, rows):
        found.begun.set()
        found.may_end.wait(10)
        real(file, rows)

    monkeypatch.setattr(export, "write_workbook", write)
    yield found
    found.may_end.set()


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
async def test_so_many_workbooks_are_written_at_once_and_csv_always(api, customer, writing):
    most = api.resources.settings.api_max_exports
    tasks = [asyncio.create_task(api.get(f"{customer}/users/export?format=xlsx")) for _ in range(most + 2)]
    await asyncio.to_thread(writing.begun.wait, 10)
    busy = await api.get(f"{customer}/users/export?format=xlsx", expect=429)
    assert busy.headers["Retry-After"] == "10"
    await api.get(f"{customer}/users/export", expect=200)
    writing.may_end.set()
    answers = [answer.status_code for answer in await asyncio.gather(*tasks)]
    assert (answers.count(200), answers.count(429)) == (most, 2)
    await api.get(f"{customer}/users/export?format=xlsx", expect=200)


@pytest.mark.spec("U3")
async def test_an_export_that_is_called_off_leaves_no_thread_behind_its_place(place, writing):
    async with running_api(place, api_max_exports=1) as api:
        customer = await api.customer()
        task = asyncio.create_task(api.get(f"{customer}/users/export?format=xlsx"))
        assert await asyncio.to_thread(writing.begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0.1)
        await api.get(f"{customer}/users/export?format=xlsx", expect=429)
        writing.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await api.get(f"{customer}/users/export?format=xlsx", expect=200)


@pytest.mark.spec("U3")
async def test_more_users_than_a_workbook_holds_are_exported_as_csv_only(api, customer, monkeypatch):
    for name in ("ann", "bob"):
        await api.post(
            f"{customer}/users", {"email": f"{name}@acme.com", "first_name": "", "last_name": ""}, expect=201
        )
    assert export.MAX_USERS == 1_048_575  # as Excel bounds it, without the names of the columns
    monkeypatch.setattr(export, "MAX_USERS", 1)
    refused = await api.get(f"{customer}/users/export?format=xlsx", expect=409)
    assert (refused.json()["code"], "CSV" in refused.json()["detail"]) == ("limit-reached", True)
    assert (await api.get(f"{customer}/users/export", expect=200)).text.count("@acme.com") == 2
    monkeypatch.setattr(export, "MAX_USERS", 2)
    await api.get(f"{customer}/users/export?format=xlsx", expect=200)
