"""A removed customer leaves nothing behind but what must be kept (SPEC T9)."""

import asyncio
from datetime import timedelta

import pytest

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.ids import new_id
from postern_common.indexes import STORED
from postern_deletion.removal.loop import Removal
from postern_deletion.removal.store import RemovalStore
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import set_up
from tests.servers.stored import Stored, connect, move, stored  # noqa: F401

MIRROR = Collections.DIRECTORY_MIRROR
NOTES = Collections.REMOVED_CUSTOMERS
EMPTY = {Collections.DOMAINS, Collections.SITES, Collections.USERS}
# Mail that was taken is delivered or returned and its trace goes by time; events are told to whoever listens; the note
# itself goes a day later.
KEPT = {"messages", "bodies", "outbox", "removed_customers"}
UNIQUE = ("name", "key", "email_key", "external_id", "run_id", "group_id", "import_id", "round_id", "seq", "number")


async def fill(mongo, name, customer_id, count=1):
    """Documents of a customer, as unlike each other as the indexes want them."""
    documents = []
    for _ in range(count):
        document_id = new_id("usr")
        documents.append({"_id": document_id, "customer_id": customer_id} | dict.fromkeys(UNIQUE, document_id))
    await mongo.db[name.value].insert_many(documents)


async def where(mongo, customer_id):
    """All collections in whose documents the customer stands anywhere."""
    found = set()
    for name in await mongo.db.list_collection_names():
        async for document in mongo.db[name].find({}):
            if customer_id in repr(document):
                found.add(name)
    return found


async def note(stored, customer_id):
    now = await stored.mongo.now()
    await stored.put(NOTES, {"_id": customer_id, "removed_at": now, "next_at": now})


@pytest.mark.spec("T9")
async def test_nothing_of_a_removed_customer_stays_in_any_collection(api):
    tenants = {name for name, stored in STORED.items() if stored.tenant}
    customer, other = await api.customer("One"), await api.customer("Two")
    customer_id, other_id = (path.rsplit("/", 1)[-1] for path in (customer, other))
    await set_up(api, customer)
    await api.post(f"{customer}/tokens", {"name": "t", "role": "customer_admin"}, expect=201)
    for name in tenants - EMPTY - {Collections.DIRECTORIES}:
        await fill(api.mongo, name, customer_id)
    for name in tenants:
        await fill(api.mongo, name, other_id)
    before = {name: [one for one in await api.all(name.value) if other_id in repr(one)] for name in tenants}
    await api.delete(customer, expect=204)
    for name in EMPTY:  # as somebody would who was a moment too late
        await fill(api.mongo, name, customer_id)
    await Removal(api.mongo).look()
    assert await where(api.mongo, customer_id) == KEPT
    assert {name: [one for one in await api.all(name.value) if other_id in repr(one)] for name in tenants} == before


@pytest.mark.spec("T9")
async def test_what_a_customer_leaves_goes_in_batches_and_is_gone_on_with_after_a_crash(stored, move, monkeypatch):
    await fill(stored.mongo, MIRROR, "cus_gone", 250)
    await fill(stored.mongo, MIRROR, "cus_other", 10)
    await note(stored, "cus_gone")
    real, sizes = RemovalStore.remove_some, []

    async def remove_some(self, name, customer_id, limit):
        if len(sizes) == 1:
            sizes.append(0)
            raise Temporary("the database went away", timedelta(seconds=1))
        found = await real(self, name, customer_id, limit)
        if found:
            sizes.append(found)
        return found

    monkeypatch.setattr(RemovalStore, "remove_some", remove_some)
    with pytest.raises(Temporary):
        await Removal(stored.mongo, batch=100).look()
    assert len(await stored.all(MIRROR, customer_id="cus_gone")) == 150
    assert await Removal(stored.mongo, batch=100).look() == 0  # somebody may still be at it
    move(timedelta(minutes=6))
    assert await Removal(stored.mongo, batch=100).look() == 150
    assert sizes == [100, 0, 100, 50]
    assert (len(await stored.all(MIRROR)), await stored.all(MIRROR, customer_id="cus_gone")) == (10, [])


@pytest.mark.spec("T9")
async def test_what_is_written_after_the_removal_goes_too_and_the_note_in_the_end(stored, move):
    await note(stored, "cus_gone")
    assert await Removal(stored.mongo).look() == 0
    await fill(stored.mongo, Collections.SYNC_RUNS, "cus_gone")
    move(timedelta(hours=1, minutes=1))
    assert await Removal(stored.mongo).look() == 1
    await fill(stored.mongo, Collections.DISCOVERIES, "cus_gone")
    move(timedelta(hours=25))
    assert (await Removal(stored.mongo).look(), len(await stored.all(NOTES))) == (1, 1)
    move(timedelta(hours=27))
    assert (await Removal(stored.mongo).look(), await stored.all(NOTES)) == (0, [])


@pytest.mark.spec("T9", "V3")
async def test_many_who_clear_up_do_so_once(stored):
    await fill(stored.mongo, MIRROR, "cus_gone", 50)
    await note(stored, "cus_gone")
    assert sum(await asyncio.gather(*(Removal(stored.mongo, batch=10).look() for _ in range(5)))) == 50


@pytest.mark.spec("T9")
async def test_a_customer_that_is_there_loses_nothing_whatever_is_noted(stored):
    customer = (await stored.customer())["_id"]
    await fill(stored.mongo, MIRROR, customer)
    await note(stored, customer)
    assert await Removal(stored.mongo).look() == 0
    assert (len(await stored.all(MIRROR)), await stored.all(NOTES)) == (1, [])
