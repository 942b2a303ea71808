"""The door to the database: tenants apart, writes whole, outages told as temporary."""

import asyncio
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.indexes import STORED
from postern_common.mongo import PLATFORM, ClockSkew, DuplicateKey, Mongo, TenantScope
from postern_common.settings import CommonSettings


def connect(uri, database, clock=None):
    settings = CommonSettings.model_construct(mongodb_uri=SecretStr(uri), mongodb_database=database)
    return Mongo.connect(settings, clock or Clock())


@pytest.fixture
async def mongo(mongo_uri, database):
    client = connect(mongo_uri, database)
    await client.ensure_indexes()
    yield client
    client.close()


@pytest.mark.spec("T2")
async def test_a_scope_sees_and_changes_its_own_tenant_only(mongo):
    ours = mongo.collection(Collections.SITES, TenantScope("cus_a"))
    theirs = mongo.collection(Collections.SITES, TenantScope("cus_b"))
    await ours.insert_one({"_id": "sit_1", "is_default": True, "description": "ours"})
    assert (await ours.find_one({"_id": "sit_1"}))["customer_id"] == "cus_a"
    assert await theirs.find_one({"_id": "sit_1"}) is None
    assert await theirs.find_one({"_id": "sit_1", "customer_id": "cus_a"}) is None
    assert await theirs.update_one({"_id": "sit_1"}, {"$set": {"description": "x"}}) == 0
    assert await theirs.update_many({}, {"$set": {"description": "x"}}) == 0
    assert await theirs.find_one_and_update({"_id": "sit_1"}, {"$set": {"description": "x"}}) is None
    assert await theirs.find_one_and_delete({"_id": "sit_1"}) is None
    assert await theirs.delete_one({"_id": "sit_1"}) == 0
    assert await theirs.delete_many({}) == 0
    assert await theirs.count({}) == 0
    assert await theirs.find({}, limit=10) == []
    assert [one async for one in theirs.stream({})] == []
    with pytest.raises(PermissionError):
        await theirs.insert_one({"_id": "sit_2", "customer_id": "cus_a"})
    assert (await ours.find_one({"_id": "sit_1"}))["description"] == "ours"


@pytest.mark.spec("T2")
async def test_what_belongs_to_no_tenant_cannot_be_asked_for_with_a_tenants_scope(mongo):
    for name, stored in STORED.items():
        if stored.tenant or name is Collections.CUSTOMERS:
            continue
        with pytest.raises(TypeError):
            mongo.collection(name, TenantScope("cus_a"))
    with pytest.raises(ValueError, match="customer id"):
        TenantScope("")


@pytest.mark.spec("U4")
async def test_an_address_is_unique_over_verified_domains_and_reserved_within_a_customer(mongo):
    addresses = mongo.collection(Collections.ADDRESSES, PLATFORM)
    row = {"key": "a@d.test", "domain": "d.test", "user_id": "usr_1", "is_primary": True, "verified": False}
    await addresses.insert_one({**row, "customer_id": "cus_a"})
    await addresses.insert_one({**row, "customer_id": "cus_b"})
    with pytest.raises(DuplicateKey):
        await addresses.insert_one({**row, "customer_id": "cus_a"})
    await addresses.update_one({"customer_id": "cus_a"}, {"$set": {"verified": True}})
    with pytest.raises(DuplicateKey):
        await addresses.update_one({"customer_id": "cus_b"}, {"$set": {"verified": True}})


@pytest.mark.spec("V3")
async def test_transactions_that_meet_are_run_again_and_lose_no_update(mongo):
    customers = mongo.collection(Collections.CUSTOMERS, PLATFORM)
    await customers.insert_one({"_id": "cus_a", "version": 0})

    async def raise_by_one(session):
        found = await customers.find_one({"_id": "cus_a"}, session=session)
        await customers.update_one({"_id": "cus_a"}, {"$set": {"version": found["version"] + 1}}, session=session)

    await asyncio.gather(*(mongo.transact(raise_by_one) for _ in range(20)))
    assert (await customers.find_one({"_id": "cus_a"}))["version"] == 20


async def test_a_database_that_is_away_is_told_soon_and_as_temporary(mongo, mongod_unit):
    await asyncio.to_thread(mongod_unit.kill)
    began = time.monotonic()
    with pytest.raises(Temporary):
        await mongo.ping()
    with pytest.raises(Temporary):
        await mongo.transact(
            lambda session: mongo.collection(Collections.SITES, PLATFORM).find_one({}, session=session)
        )
    assert time.monotonic() - began < 15
    await asyncio.to_thread(mongod_unit.start)
    await mongo.ping()


@pytest.mark.spec("V3")
async def test_a_commit_that_gets_no_answer_is_given_up_as_temporary(mongo, mongod_unit):
    sites = mongo.collection(Collections.SITES, PLATFORM)

    async def write_and_lose_the_database(session):
        await sites.insert_one({"_id": "sit_1", "customer_id": "cus_a"}, session=session)
        await asyncio.to_thread(mongod_unit.kill)

    async with asyncio.timeout(40):
        with pytest.raises(Temporary):
            await mongo.transact(write_and_lose_the_database)
    await asyncio.to_thread(mongod_unit.start)
    assert await sites.find_one({"_id": "sit_1"}) is None


async def test_a_database_that_goes_silent_is_told_before_the_sockets_own_timeout(mongo, mongod_unit):
    await mongo.ping()
    mongod_unit.child.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(Temporary):
            await mongo.collection(Collections.SITES, PLATFORM).find_one({})
        assert time.monotonic() - began < 15
        began = time.monotonic()
        with pytest.raises(Temporary):
            await mongo.ping()
        assert time.monotonic() - began < 6
    finally:
        mongod_unit.child.process.send_signal(signal.SIGCONT)
    await mongo.ping()


@pytest.mark.spec("X4")
async def test_due_times_follow_the_databases_clock_and_a_clock_far_off_is_refused(mongo, monkeypatch, tmp_path):
    assert abs(await mongo.now() - datetime.now(UTC)) < timedelta(seconds=5)
    moved = tmp_path / "clock"
    moved.write_text("259200")
    mongo.clock = Clock(moved)
    assert abs(await mongo.now() - datetime.now(UTC) - timedelta(hours=72)) < timedelta(seconds=5)

    class HourAhead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr("postern_common.mongo.datetime", HourAhead)
    with pytest.raises(ClockSkew):
        await mongo.now()


async def test_many_documents_of_which_one_is_there_already_are_refused_like_one(mongo):
    sites = mongo.collection(Collections.SITES, TenantScope("cus_a"))
    await sites.insert_one({"_id": "sit_1", "is_default": True})
    with pytest.raises(DuplicateKey) as refused:
        await sites.insert_many([{"_id": "sit_2"}, {"_id": "sit_3", "is_default": True}])
    assert refused.value.details is not None
    assert refused.value.details["keyValue"] == {"customer_id": "cus_a"}


@pytest.mark.spec("T2")
async def test_many_changes_in_one_request_stay_with_their_tenant(mongo):
    ours = mongo.collection(Collections.SITES, TenantScope("cus_a"))
    theirs = mongo.collection(Collections.SITES, TenantScope("cus_b"))
    await ours.insert_many([{"_id": "sit_1", "n": 0}, {"_id": "sit_2", "n": 0}])
    changes = [({"_id": "sit_1"}, {"$set": {"n": 1}}), ({"_id": "sit_2"}, {"$set": {"n": 2}})]
    assert await theirs.update_each(changes) == 0
    assert await ours.update_each(changes) == 2
    assert [site["n"] for site in await ours.find({}, limit=9, sort=[("_id", 1)])] == [1, 2]
