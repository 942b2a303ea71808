"""The database's disk is full while mail pours in: nothing is taken that is not kept, and room is all that it needs."""

import os
import secrets
import time
from contextlib import suppress

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from postern_local.mongod import Mongod
from postern_local.ports import free_ports
from postern_local.unit import Unit
from tests.chaos.faults import Readiness, delivered, unfinished
from tests.chaos.load import Load, arrived, settled
from tests.servers.small_disk import SmallDisk, supervised
from tests.servers.stack import Stack, running
from tests.servers.waiting import eventually

MEGABYTES = 600  # mongod's journal alone takes 300
SETTINGS = {"POSTERN_EDGE_FIRST_RETRY_SECONDS": "1"}


@pytest.fixture
def disk(farm):
    small = SmallDisk(farm.directory / f"small-disk-{secrets.token_hex(3)}", MEGABYTES)
    yield small
    small.close()


@pytest.fixture
def database(farm, disk):
    unit = Unit(Mongod(disk.directory / "mongod", free_ports(1)[0], "mongod-on-small-disk"), farm.processes)
    unit.start()
    yield unit
    unit.kill()


@pytest.fixture
def two_edges(farm, database):
    with running(Stack(farm, edges=2, settings=SETTINGS | {"MONGODB_URI": database.part.uri})) as stack:
        yield stack


def write_to_disk(unit):
    """Have the database write what it has in memory, which it does by itself once a minute."""
    client = MongoClient(unit.part.uri, serverSelectionTimeoutMS=2000, socketTimeoutMS=10_000)
    with suppress(PyMongoError):
        client.admin.command("fsync")
    client.close()


@pytest.mark.chaos
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.spec("R4")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("count", "full_seconds"), [(600, 8), pytest.param(10_000, 45, marks=pytest.mark.soak)])
def test_what_got_250_arrives_though_the_disk_of_the_database_is_full_for_a_while(
    disk, database, two_edges, count, full_seconds, record_property
):
    stack = two_edges
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    load = Load(lambda: [stack.smtp("edge"), stack.smtp("edge2")], f"anyone@{domain}", count, patience=60)
    with Readiness(stack.ops_url("edge")) as first, Readiness(stack.ops_url("edge2")) as second:
        load.start()
        load.wait_for(count // 2)
        left, first_life, began = disk.fill(), database.child, time.monotonic()
        with supervised(database):
            write_to_disk(database)
            eventually(lambda: not first_life.alive, timeout=90)
            died = time.monotonic()
            lost = max(edge.await_turn(ready=False, since=died, within=10) for edge in (first, second))
            time.sleep(max(0.0, died + full_seconds - time.monotonic()))
            taken = len(load.taken)
            disk.free()
            freed = time.monotonic()
            back = max(edge.await_turn(ready=True, since=freed, within=60) for edge in (first, second))
            load.join(300)
    account = settled(
        load, lambda: arrived(stack.next_hop.messages()), lambda: unfinished(database.part.uri, stack.database)
    )
    kept = delivered(database.part.uri, stack.database)
    record_property("counts", f"the last {left >> 20} MiB filled, the database died {died - began:.1f} s later")
    record_property("counts", f"not ready {lost:.1f} s after that, ready again {back:.1f} s after there was room")
    record_property("counts", f"{taken} taken until there was room again")
    for line in account.lines():
        record_property("counts", line)
    assert not account.lost
    assert kept == len(account.counts), "the database has each message that went out, whole"
    assert account.duplicates == 0
