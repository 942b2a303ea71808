"""Edges behind HAProxy are replaced one by one while mail pours in: nothing is lost, refused or cut off (SPEC R4)."""

import shutil
import subprocess
import time

import pytest

from postern_local.ports import free_ports
from tests.chaos.load import Load, arrived
from tests.servers.stack import Stack, running
from tests.servers.waiting import eventually

NOTICE_SECONDS = 4.0
SETTINGS = {
    "POSTERN_EDGE_PROXY_NETWORKS": "127.0.0.0/8",
    "POSTERN_DRAIN_NOTICE_SECONDS": str(NOTICE_SECONDS),
}
# The balancer asks each edge's operations port whether it is ready, and gives it no new connection where it is not. An
# answer may take longer than the pause between two questions, which is its time by default.
CONFIG = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 3s
listen mail
    bind 127.0.0.1:{port}
    balance roundrobin
    option redispatch
    retries 3
    option httpchk GET /readyz
    default-server check inter 200 fall 1 rise 2 send-proxy-v2
"""


@pytest.fixture
def two_edges(farm):
    with running(Stack(farm, edges=2, settings=SETTINGS)) as stack:
        yield stack


@pytest.fixture
def balanced(two_edges, tmp_path):
    [port] = free_ports(1)
    servers = [
        f"    server {name} 127.0.0.1:{two_edges.smtp(name)[1]} port {two_edges.ops_url(name).rpartition(':')[2]}\n"
        for name in ("edge", "edge2")
    ]
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.format(port=port) + "".join(servers))
    process = subprocess.Popen(["haproxy", "-f", str(config), "-db", "-q"])
    try:
        time.sleep(1)
        yield two_edges, ("127.0.0.1", port)
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.chaos
@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.spec("R4")
@pytest.mark.timeout(420)
@pytest.mark.parametrize("count", [1500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_edges_are_replaced_one_by_one_under_load_without_a_word_of_it(balanced, count, record_property):
    stack, address = balanced
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    load = Load(lambda: [address], f"anyone@{domain}", count)
    load.start()
    for number, name in enumerate(("edge", "edge2"), start=1):
        load.wait_for(count * number // 3)
        stack.restart(name)
        time.sleep(1)  # the balancer asks twice before it believes
    load.join(240)
    eventually(lambda: load.taken <= set(arrived(stack.next_hop.messages())), timeout=120, pause=1)
    counts = arrived(stack.next_hop.messages())
    record_property("counts", f"taken {len(load.taken)}, refused {load.refused}, connections cut off {load.broken}")
    assert (load.refused, load.broken) == (0, 0)
    assert set(counts) == load.taken
    assert max(counts.values()) == 1
