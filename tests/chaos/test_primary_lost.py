"""The database's primary dies or stands still while mail pours in: another takes its place, and nothing is lost."""

import secrets
import time

import pytest

from tests.chaos.faults import Readiness, delivered, paused, unfinished
from tests.chaos.load import Load, arrived, settled
from tests.servers.replica_set import ReplicaSet
from tests.servers.stack import Stack, running
from tests.servers.waiting import eventually

SETTINGS = {"POSTERN_EDGE_FIRST_RETRY_SECONDS": "1"}
NOTICED_SECONDS = 10.0  # a check has 3 s to pass, and the answer before it may have begun just earlier
ELECTED_SECONDS = 40.0  # MongoDB elects after 10 s of silence; then the driver has to find the new primary


@pytest.fixture
def replica_set(farm):
    three = ReplicaSet(farm.directory / f"mongod-set-{secrets.token_hex(3)}", farm.processes)
    try:
        three.start()
        yield three
    finally:
        three.close()


@pytest.fixture
def two_edges(farm, replica_set):
    with running(Stack(farm, edges=2, settings=SETTINGS | {"MONGODB_URI": replica_set.uri})) as stack:
        yield stack


def outage(edges, began):
    """Wait until the edges say that they have no database, and then that they have one; when each was first said."""
    lost = [edge.await_turn(ready=False, since=began, within=NOTICED_SECONDS) for edge in edges]
    back = [edge.await_turn(ready=True, since=began, within=ELECTED_SECONDS) for edge in edges]
    return f"not ready after {max(lost):.1f} s, ready again after {max(back):.1f} s"


@pytest.mark.chaos
@pytest.mark.spec("R4")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("count", "pause_seconds"), [(800, 10), pytest.param(10_000, 30, marks=pytest.mark.soak)])
def test_what_got_250_arrives_though_the_primary_is_killed_and_the_next_one_stands_still(
    replica_set, two_edges, count, pause_seconds, record_property
):
    stack = two_edges
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    load = Load(lambda: [stack.smtp("edge"), stack.smtp("edge2")], f"anyone@{domain}", count, patience=60)
    with Readiness(stack.ops_url("edge")) as first, Readiness(stack.ops_url("edge2")) as second:
        load.start()

        load.wait_for(count // 3)
        killed, began = replica_set.find_primary(), time.monotonic()
        killed.kill()
        record_property("counts", f"primary killed: {outage((first, second), began)}")
        killed.start()

        load.wait_for(count * 2 // 3)
        stopped, began = replica_set.find_primary(), time.monotonic()
        with paused(stopped):
            record_property("counts", f"primary stands still: {outage((first, second), began)}")
            # The other two serve while it still stands, though not quickly: the one that read from it reports what it
            # has by heartbeats alone, every 2 s, until MongoDB gives the old connection up after 30 s.
            load.wait_for(min(len(load.taken) + 8, count))
            time.sleep(max(0.0, began + pause_seconds - time.monotonic()))
        eventually(lambda: stopped.part.missing() is None, timeout=30)

        load.join(240)
    account = settled(
        load,
        lambda: arrived(stack.next_hop.messages()),
        lambda: unfinished(replica_set.uri, stack.database),
    )
    kept = delivered(replica_set.uri, stack.database)
    for line in account.lines():
        record_property("counts", line)
    assert not account.lost
    assert kept == len(account.counts), "the set has each message that went out: no majority forgot one"
    # Leases outlast an election, and a result is written until the database has it: nobody else tries meanwhile.
    assert account.duplicates == 0
