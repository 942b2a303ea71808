"""Edges that only take mail and one that only delivers: the one that delivers dies by SIGKILL, again and again."""

import pytest

from tests.chaos.faults import Readiness, unfinished
from tests.chaos.load import Load, arrived, settled
from tests.servers.stack import Stack, running

PER_SERVER = 10
KILLS = 3
SETTINGS = {
    "POSTERN_EDGE_FIRST_RETRY_SECONDS": "1",
    "POSTERN_EDGE_LEASE_SECONDS": "5",
    "POSTERN_EDGE_DELIVERIES": "0",
    "POSTERN_EDGE_DELIVERIES_PER_SERVER": str(PER_SERVER),
}


@pytest.fixture
def edge_and_worker(farm):
    stack = Stack(farm, settings=SETTINGS)
    stack.add_edge("worker", POSTERN_EDGE_DELIVERIES="100")
    with running(stack):
        yield stack


@pytest.mark.chaos
@pytest.mark.spec("R4")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.soak)])
def test_what_got_250_arrives_though_the_delivery_worker_is_killed(edge_and_worker, count, record_property):
    stack = edge_and_worker
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    load = Load(lambda: [stack.smtp("edge")], f"anyone@{domain}", count)
    with Readiness(stack.ops_url("edge")) as readiness:
        load.start()
        for number in range(1, KILLS + 1):
            load.wait_for(count * number // (KILLS + 1))
            stack.kill("worker")
            stack.start("worker")
        load.join(300)
        account = settled(
            load,
            lambda: arrived(stack.next_hop.messages()),
            lambda: unfinished(stack.farm.mongo_uri(), stack.database),
        )
        assert [ready for _, ready in readiness.changes] == [True], "taking mail needs no delivery"
    most = 2 * PER_SERVER * KILLS
    for line in account.lines():
        record_property("counts", line)
    record_property("counts", f"duplicates at most {most}: in flight as it died, or the result in flight")
    assert not account.lost
    assert account.duplicates <= most
    assert (load.refused, load.broken) == (0, 0)
