"""Imports of many rows: memory does not grow with the file, and the time is told."""

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from postern_api.imports.export import csv_of
from postern_api.imports.workbook_writer import workbook_of
from postern_api.imports.worker import ImportWorker
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parents[2]
CSV = {"Content-Type": "text/csv"}
XLSX = {"Content-Type": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
MOST_MEBIBYTES = 60  # above what the process needs anyway


def people(count, *, mobile="+44 7700 900000"):
    yield ["email", "first_name", "last_name", "mobile", "department", "notes", "alias1"]
    for number in range(count):
        address = f"person.{number:06d}@acme.com"
        yield [address, f"First{number}", f"Last{number}", mobile, "Sales", f"Note {number}", f"p{number}@acme.com"]


async def worked_here(api):
    """What the worker needed, in this process."""
    began = time.monotonic()
    while await ImportWorker(api.resources).work_once():
        pass
    return {"seconds": time.monotonic() - began, "idle_mebibytes": 0, "peak_mebibytes": 0}


async def worked_apart(place):
    """What the worker needed, in a process of its own."""
    arguments = ["-m", "tests.servers.import_worker", *place]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return json.loads(output.decode().splitlines()[-1])


async def reviewed(api, customer, worked, data, headers):
    made = await api.post(f"{customer}/imports", content=data, headers=headers, expect=202)
    needed = await worked()
    return (await api.get(made.headers["Location"], expect=200)).json(), needed


async def story(api, worked, count):
    customer = await api.customer(allowed_users=count + 10)
    await api.verified(customer, "acme.com")
    imported, review = await reviewed(api, customer, worked, csv_of(people(count)), CSV)
    assert (imported["state"], imported["counts"]["create"]) == ("reviewed", count)
    await api.post(f"{customer}/imports/{imported['id']}/apply", expect=202)
    apply = await worked()
    applied = (await api.get(f"{customer}/imports/{imported['id']}", expect=200)).json()
    assert applied["results"]["created"] == count
    again, unchanged = await reviewed(api, customer, worked, csv_of(people(count)), CSV)
    assert again["counts"]["unchanged"] == count
    changed, _ = await reviewed(api, customer, worked, csv_of(people(count, mobile="1")), CSV)
    assert changed["counts"]["update"] == count
    await api.post(f"{customer}/imports/{changed['id']}/apply", expect=202)
    update = await worked()
    measured = {"review": review, "apply": apply, "review unchanged": unchanged, "apply updates": update}
    book, measured["review xlsx"] = await reviewed(api, customer, worked, workbook_of(people(count)), XLSX)
    assert book["counts"]["update"] == count
    for name, needed in measured.items():
        print(f"{name}: {count} rows in {needed['seconds']:.1f} s, peak {needed['peak_mebibytes']:.0f} MiB", needed)
        assert needed["peak_mebibytes"] < needed["idle_mebibytes"] + MOST_MEBIBYTES
    exported = await api.get(f"{customer}/users/export", expect=200)
    assert exported.content.count(b"\r\n") == count + 1


@pytest.mark.spec("U3")
async def test_two_thousand_rows_are_reviewed_and_applied(api, place):
    await story(api, lambda: worked_here(api), 2000)


@pytest.mark.soak
@pytest.mark.spec("U3")
@pytest.mark.timeout(1200)
async def test_a_hundred_thousand_rows_are_reviewed_and_applied_in_bounded_memory(api, place):
    await story(api, lambda: worked_apart(place), 100_000)
