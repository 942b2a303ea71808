"""An edge stands still for longer than its leases: the other one takes its mail over, and nothing is lost."""

import time

import httpx2
import pytest

from tests.chaos.faults import Readiness, paused, unfinished
from tests.chaos.load import Load, numbers, settled
from tests.servers.hops import Hops
from tests.servers.stack import Stack, running
from tests.servers.waiting import eventually

PER_SERVER = 10
LEASE_SECONDS = 5
UNDER_WAY = "postern_edge_deliveries_under_way"
SETTINGS = {
    "POSTERN_EDGE_FIRST_RETRY_SECONDS": "1",
    "POSTERN_EDGE_LEASE_SECONDS": str(LEASE_SECONDS),
    "POSTERN_EDGE_DELIVERIES_PER_SERVER": str(PER_SERVER),
}
SLOW_SECONDS = 0.3
PATIENCE_SECONDS = 4.0  # of the senders, who then go to the other edge


@pytest.fixture
def two_edges(farm):
    with running(Stack(farm, edges=2, settings=SETTINGS)) as stack:
        yield stack


@pytest.fixture
def slow_hop():
    """Takes less than the load brings, so that an edge always has mail in flight and more in line."""
    hops = Hops()
    yield hops.add(delays={"END": SLOW_SECONDS})
    hops.close()


def measured(stack, name, metric):
    """A number of an edge's own."""
    text = httpx2.get(f"{stack.ops_url(name)}/metrics", trust_env=False, timeout=5).text
    return sum(int(float(line.split()[-1])) for line in text.splitlines() if line.startswith(f"{metric} "))


@pytest.mark.chaos
@pytest.mark.spec("R4")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("count", "pause_seconds"), [(600, 9), pytest.param(10_000, 30, marks=pytest.mark.soak)])
def test_what_an_edge_held_that_stands_still_is_taken_over(two_edges, slow_hop, count, pause_seconds, record_property):
    stack = two_edges
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer, slow_hop.port)
    load = Load(lambda: [stack.smtp("edge"), stack.smtp("edge2")], f"anyone@{domain}", count, patience=PATIENCE_SECONDS)
    load.start()
    load.wait_for(count // 2)
    eventually(lambda: measured(stack, "edge", UNDER_WAY) > 4 * PER_SERVER, timeout=60)
    held = measured(stack, "edge", UNDER_WAY)
    with Readiness(stack.ops_url("edge")) as readiness:
        began = time.monotonic()
        with paused(stack.units["edge"]):
            readiness.await_turn(ready=False, since=began, within=PATIENCE_SECONDS + 4)
            time.sleep(max(0.0, began + pause_seconds - time.monotonic()))
            taken_over = measured(stack, "edge2", "postern_edge_queue_claimed_total")
        back = readiness.await_turn(ready=True, since=time.monotonic(), within=20)
    load.join(240)
    account = settled(
        load,
        lambda: numbers(message.data for message in slow_hop.messages),
        lambda: unfinished(stack.farm.mongo_uri(), stack.database),
        seconds=400,  # what the slow next hop has in line by then
    )
    record_property("counts", f"{held} messages held by the edge as it stopped, the other took {taken_over} over")
    record_property("counts", f"ready again {back:.1f} s after it went on")
    for line in account.lines():
        record_property("counts", line)
    # As the edge stopped, each connection had a message on its way to the next hop, or its result on the way to the
    # database and the next message on its way already: so much cannot be known by whoever takes over (RFC 1047).
    record_property("counts", f"duplicates at most {2 * PER_SERVER}: in flight, or the result in flight")
    assert taken_over >= held - 2 * PER_SERVER
    assert not account.lost
    assert account.duplicates <= 2 * PER_SERVER
