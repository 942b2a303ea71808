"""A service whose machine's clock is an hour off decides nothing by it: real processes under libfaketime (SPEC X4)."""

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.servers.stack import Stack
from tests.servers.stored import Stored, connect
from tests.servers.waiting import eventually_async

LIBRARY = next(iter(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (Debian's faketime)")
SETTINGS = {"POSTERN_DELETION_POLL_SECONDS": "0.2", "POSTERN_SYNC_POLL_SECONDS": "0.2"}


@pytest.fixture(scope="module")
def surroundings(farm):
    around = Stack(farm, settings=SETTINGS)
    yield around
    around.close()


@pytest.fixture
async def stored(surroundings):
    mongo = connect(surroundings.farm.mongo_uri(), surroundings.database)
    await mongo.ensure_indexes()
    yield Stored(mongo)
    mongo.close()


def _launched(surroundings, kind, offset):
    """A service of that kind whose clock is off by `offset`."""
    name = f"{kind}-{new_id('srv')[-6:]}"
    faked = {"LD_PRELOAD": LIBRARY, "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    service = surroundings.surroundings.service(kind, name, free_ports(1)[0], **faked)
    unit = Unit(service, surroundings.farm.processes)
    unit.launch()
    return unit, service


async def _says_so(service):
    """Its readiness names the clock."""
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as http:

        async def is_told():
            try:
                answer = await http.get(f"{service.ops_url}/readyz?verbose")
            except httpx2.HTTPError:
                return False
            return answer.status_code == 503 and "clock" in answer.text

        await eventually_async(is_told, timeout=30)


@pytest.mark.spec("X4")
@pytest.mark.parametrize("offset", ["+1h", "-1h"])
async def test_a_scheduler_an_hour_off_deletes_nobody(surroundings, stored, offset):
    now = await stored.mongo.now()
    customer = (await stored.customer())["_id"]
    for email, due_at in (
        ("soon@demo.test", now + timedelta(minutes=30)),
        ("due@demo.test", now - timedelta(minutes=5)),
    ):
        state = {"state": "flagged", "flagged_at": now - timedelta(days=8), "due_at": due_at, "flag_reason": "absent"}
        await stored.user(f"{new_id('usr')}-{email}"[-60:], customer_id=customer, verified=True, **state)
    before = len(await stored.all(Collections.USERS))
    unit, service = await asyncio.to_thread(_launched, surroundings, "deletion", offset)
    try:
        await _says_so(service)
        await asyncio.sleep(2)
        assert len(await stored.all(Collections.USERS)) == before
    finally:
        await asyncio.to_thread(unit.stop)


@pytest.mark.spec("S8", "X4")
@pytest.mark.parametrize("offset", ["+1h", "-1h"])
async def test_a_synchronisation_an_hour_off_starts_no_run(surroundings, stored, offset):
    now = await stored.mongo.now()
    customer = (await stored.customer())["_id"]
    directory = {
        "_id": new_id("dir"),
        "customer_id": customer,
        "provider": "ldap",
        "enabled": True,
        "interval_hours": 6,
        "next_run_at": now + timedelta(minutes=30),
        "ldap": None,
        "entra": None,
    }
    await stored.put(Collections.DIRECTORIES, directory)
    unit, service = await asyncio.to_thread(_launched, surroundings, "sync", offset)
    try:
        await _says_so(service)
        await asyncio.sleep(2)
        assert await stored.all(Collections.SYNC_RUNS, customer_id=customer) == []
    finally:
        await asyncio.to_thread(unit.stop)
