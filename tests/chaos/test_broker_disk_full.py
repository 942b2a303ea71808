"""The broker's disk is full while mail pours in: mail does not notice, and the events arrive once there is room."""

import os
import secrets

import pytest

from postern_local.ports import free_ports
from postern_local.rabbitmq import RabbitMQ
from postern_local.unit import Unit
from tests.chaos.events import StoredEvents
from tests.chaos.faults import Readiness, unfinished
from tests.chaos.load import Load, arrived, settled
from tests.servers.small_disk import SmallDisk
from tests.servers.stack import Stack, running
from tests.servers.waiting import eventually

MEGABYTES = 500
LEFT_BYTES = 100 << 20  # RabbitMQ blocks publishers below 200 MB, and never comes to the end of the disk
MEBIBYTE = 1 << 20


@pytest.fixture
def disk(farm):
    small = SmallDisk(farm.directory / f"broker-disk-{secrets.token_hex(3)}", MEGABYTES)
    yield small
    small.close()


@pytest.fixture
def broker(farm, disk):
    farm.rabbitmq()  # with it comes the port mapper, which both use
    epmd = farm.existing("epmd").part
    port, distribution, management = free_ports(3)
    node, cookie = "on-small-disk@localhost", farm.keys.erlang_cookie
    own = disk.directory / "rabbitmq"
    part = RabbitMQ(own, port, epmd.port, "secret", cookie, node, distribution, management, name="rabbit-on-small-disk")
    unit = Unit(part, farm.processes)
    unit.start(90)
    yield unit
    unit.kill()


@pytest.fixture
def edges(farm, broker):
    with running(Stack(farm, edges=2, settings={"AMQP_URL": broker.part.url})) as stack:
        yield stack


def has_alarm(broker):
    """Whether the broker says that its disk is too full."""
    return "disk resource limit alarm set" in broker.child.log.read_text().rpartition("alarm cleared")[2]


@pytest.mark.chaos
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.spec("V3")
@pytest.mark.spec("R4")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.soak)])
def test_mail_flows_and_events_wait_while_the_disk_of_the_broker_is_full(disk, broker, edges, count, record_property):
    stack = edges
    customer = stack.customer()
    domain = stack.domain(customer)
    stack.site(customer)
    load = Load(lambda: [stack.smtp("edge"), stack.smtp("edge2")], f"anyone@{domain}", count)
    events = StoredEvents(stack.farm.mongo_uri(), stack.database)
    with Readiness(stack.ops_url("edge")) as first, Readiness(stack.ops_url("edge2")) as second:
        filled = disk.fill(but=LEFT_BYTES)
        eventually(lambda: has_alarm(broker), timeout=30)
        load.start()
        load.join(300)
        account = settled(
            load,
            lambda: arrived(stack.next_hop.messages()),
            lambda: unfinished(stack.farm.mongo_uri(), stack.database),
        )
        waiting = events.left()
        disk.free()
        eventually(lambda: not has_alarm(broker), timeout=60)
        stack.move_clock(120)  # what was left over is swept after a minute, in case its writer still publishes it
        eventually(lambda: not events.left(), timeout=120, pause=1)
    events.close()
    record_property(
        "counts", f"{filled // MEBIBYTE} MiB filled: {waiting} messages and changes waited with their events"
    )
    for line in account.lines():
        record_property("counts", line)
    assert waiting >= len(load.taken) * 0.9
    assert not account.lost
    assert account.duplicates == 0
    assert (load.refused, load.broken) == (0, 0)
    for watch in (first, second):
        assert [ready for _, ready in watch.changes] == [True], "mail needs no broker"
