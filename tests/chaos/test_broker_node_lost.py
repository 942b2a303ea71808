"""Nodes of a RabbitMQ cluster are lost while mail pours in: mail does not notice, and every event arrives (SPEC V3)."""

import json
import secrets
import shutil
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from functools import partial

import httpx2
import pytest

from postern_common.topology import EXCHANGE
from tests.chaos.events import StoredEvents
from tests.chaos.faults import Readiness, paused, unfinished
from tests.chaos.load import Load, arrived, settled
from tests.servers.rabbit_cluster import NODES, RabbitCluster
from tests.servers.stack import Stack
from tests.servers.waiting import eventually

PROBE = "probe"
READ_AT_ONCE = 1000
RECONNECTED_SECONDS = 30.0
PAUSE_SECONDS = 30.0
PER_MESSAGE = ("MessageReceived", "MessageDelivered")


@pytest.fixture
def cluster(farm):
    three = RabbitCluster(farm.directory / f"rabbit-{secrets.token_hex(3)}", farm.processes, farm.keys)
    try:
        three.start()
        yield three
    finally:
        three.close()


@pytest.fixture
def two_edges(farm, cluster):
    stack = Stack(farm, edges=2, settings={"AMQP_URL": cluster.url})
    try:
        stack.start_all()
        cluster.ask(f"/api/queues/%2F/{PROBE}", "PUT", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
        cluster.ask(f"/api/bindings/%2F/e/{EXCHANGE}/q/{PROBE}", "POST", {"routing_key": "#"})
        yield stack
    finally:
        stack.close()


@contextmanager
def lost(node, fault):
    """Within this a node is killed, or stands still."""
    if fault == "pause":
        with paused(node):
            yield
        return
    node.kill()
    yield
    node.start(90)


def connections(stack):
    """How often each edge has connected to the broker by now."""
    return [stack.log(name).read_text().count('"broker_connected"') for name in ("edge", "edge2")]


def reached_anew(stack, before):
    """Whether an edge has another connection than `before`, and each says that it has one."""
    for name in ("edge", "edge2"):
        text = httpx2.get(f"{stack.ops_url(name)}/readyz?verbose", trust_env=False, timeout=5).text
        if "broker: ok" not in text.splitlines():
            return False
    return any(now > then for now, then in zip(connections(stack), before, strict=True))


def read_events(cluster):
    """All events that reached the probe's queue."""
    request = {"count": READ_AT_ONCE, "ackmode": "ack_requeue_false", "encoding": "auto"}
    while found := cluster.ask(f"/api/queues/%2F/{PROBE}/get", "POST", request):
        for one in found:
            yield json.loads(one["payload"])


@pytest.mark.chaos
@pytest.mark.skipif(shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None, reason="haproxy is not installed")
@pytest.mark.spec("V3")
@pytest.mark.spec("R4")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("count", "faults"),
    [(600, ["kill"]), pytest.param(10_000, ["kill", "pause", "pause", "kill"], marks=pytest.mark.soak)],
)
def test_every_event_arrives_though_nodes_of_the_broker_are_lost(cluster, two_edges, count, faults, record_property):
    stack = two_edges
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    assert set(cluster.replicas().values()) == {(NODES, NODES)}
    load = Load(lambda: [stack.smtp("edge"), stack.smtp("edge2")], f"anyone@{domain}", count)
    users = set()
    with Readiness(stack.ops_url("edge")) as first, Readiness(stack.ops_url("edge2")) as second:
        load.start()
        for number, fault in enumerate(faults, start=1):
            load.wait_for(count * number // (len(faults) + 1))
            victim = cluster.busiest()
            eventually(cluster.are_queues_on_disk, timeout=15)
            before, began = connections(stack), time.monotonic()
            with lost(victim, fault):
                users.add(stack.user(customer, f"user{number}@{domain}")["id"])
                if fault == "kill":
                    eventually(partial(reached_anew, stack, before), timeout=RECONNECTED_SECONDS)
                else:
                    # The other two believe in a silent node for a minute (`net_ticktime`), and wait for it till then.
                    time.sleep(PAUSE_SECONDS)
            eventually(partial(reached_anew, stack, before), timeout=RECONNECTED_SECONDS)
            took = time.monotonic() - began
            record_property("counts", f"{victim.name}: {fault}; all well again {took:.1f} s later")
            eventually(lambda: set(cluster.replicas().values()) == {(NODES, NODES)}, timeout=90, pause=0.5)
        load.join(300)
        account = settled(
            load,
            lambda: arrived(stack.next_hop.messages()),
            lambda: unfinished(stack.farm.mongo_uri(), stack.database),
        )
        for watch in (first, second):
            assert [ready for _, ready in watch.changes] == [True], "mail needs no broker"
    stack.move_clock(120)  # what was left over is swept after a minute, in case its writer still publishes it
    events = StoredEvents(stack.farm.mongo_uri(), stack.database)
    eventually(lambda: not events.left(), timeout=120, pause=1)

    copies = Counter()
    event_ids = defaultdict(set)
    for event in read_events(cluster):
        copies[event["id"]] += 1
        data, name = event["data"], event["type"].split(".")[-2]
        event_ids[name, data.get("message_id") or data.get("user_id")].add(event["id"])
    for line in account.lines():
        record_property("counts", line)
    surplus = copies.total() - len(copies)
    record_property("counts", f"{len(copies)} events arrived, {surplus} of them once more: confirms lost with a node")
    wanted = {(name, message_id) for name in PER_MESSAGE for message_id in events.message_ids()}
    wanted |= {("UserAdded", user_id) for user_id in users}
    events.close()
    assert not account.lost
    assert account.duplicates == 0
    assert load.refused == 0
    assert wanted <= set(event_ids)
    assert {len(event_ids[key]) for key in wanted} == {1}, "an event that comes twice has one id"
