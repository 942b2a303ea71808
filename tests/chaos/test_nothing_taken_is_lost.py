"""Every process of the mail path dies by SIGKILL while mail pours in: what got 250 arrives (SPEC R4)."""

import time

import httpx2
import pytest

from tests.chaos.load import Load, arrived
from tests.servers.stack import Stack, running
from tests.servers.waiting import eventually

PER_SERVER = 10
SETTINGS = {
    "POSTERN_EDGE_FIRST_RETRY_SECONDS": "1",
    "POSTERN_EDGE_LEASE_SECONDS": "5",
    "POSTERN_EDGE_DELIVERIES_PER_SERVER": str(PER_SERVER),
}


@pytest.fixture
def two_edges(farm):
    with running(Stack(farm, edges=2, settings=SETTINGS)) as stack:
        yield stack


def under_way(stack, name):
    """Deliveries in flight in an edge just now, by its own count."""
    text = httpx2.get(f"{stack.ops_url(name)}/metrics", trust_env=False, timeout=5).text
    lines = [line for line in text.splitlines() if line.startswith("postern_edge_deliveries_under_way")]
    return int(float(lines[0].split()[-1])) if lines else 0


@pytest.mark.chaos
@pytest.mark.spec("R4")
@pytest.mark.spec("V3")
@pytest.mark.timeout(420)
@pytest.mark.parametrize("count", [2000, pytest.param(20_000, marks=pytest.mark.soak)])
def test_what_got_250_arrives_though_each_process_is_killed(two_edges, count, record_property):
    stack = two_edges
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    victims = ["edge", "mongod", "edge2", "rabbitmq", "edge"]
    load = Load(lambda: [stack.smtp("edge"), stack.smtp("edge2")], f"anyone@{domain}", count)
    load.start()
    allowed = 0
    for number, victim in enumerate(victims, start=1):
        load.wait_for(count * number // (len(victims) + 1))
        flying = sum(under_way(stack, name) for name in ("edge", "edge2")) if victim != "rabbitmq" else 0
        stack.kill(victim)
        allowed += 0 if victim == "rabbitmq" else PER_SERVER * (2 if victim == "mongod" else 1)
        record_property("counts", f"killed {victim} at {len(load.taken)} taken, {flying} deliveries under way")
        time.sleep(0.5)
        stack.start(victim)
    load.join(240)

    def all_arrived():
        return load.taken <= set(arrived(stack.next_hop.messages()))

    eventually(all_arrived, timeout=120, pause=1)
    counts = arrived(stack.next_hop.messages())
    duplicates = sum(number - 1 for number in counts.values())
    unanswered = len(set(counts) - load.taken)
    record_property("counts", f"taken {len(load.taken)}, arrived {len(counts)} ({unanswered} of them got no answer)")
    record_property("counts", f"duplicates {duplicates}, at most {allowed}")
    record_property("counts", f"refused for a while {load.refused}, connections cut off {load.broken}")
    assert load.taken <= set(counts)
    assert duplicates <= allowed
