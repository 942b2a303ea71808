"""The verifier as a process on a real broker, database and name server: events, signals, kills."""

import asyncio
from datetime import timedelta

import httpx2
import pytest

from postern_common.documents import Collections
from postern_common.events import DomainAdded
from postern_dns.rules.ownership import expected_value
from postern_local.unit import Unit
from tests.servers.publisher import publishing
from tests.servers.stack import Stack
from tests.servers.stored import Stored, connect
from tests.servers.waiting import eventually, eventually_async
from tests.servers.zones import silent_server

DOMAINS = Collections.DOMAINS
FAR = timedelta(hours=1)


@pytest.fixture(scope="module")
def surroundings(farm):
    """A database, a vhost and a name server for a verifier; no other service runs."""
    around = Stack(farm)
    yield around
    around.close()


@pytest.fixture
async def stored(surroundings):
    mongo = connect(surroundings.farm.mongo_uri(), surroundings.database)
    await mongo.ensure_indexes()
    yield Stored(mongo)
    mongo.close()


@pytest.fixture
def dns(surroundings):
    """The verifier, running and ready."""
    unit = surroundings.units["dns"]
    unit.start()
    yield unit
    unit.stop()


@pytest.fixture
async def publisher(surroundings, stored, dns):
    async with publishing(surroundings.farm, surroundings.vhost, stored.mongo) as ready:
        yield ready


def added(domain):
    return DomainAdded(
        customer_id=domain["customer_id"], domain_id=domain["_id"], name_=domain["name"], deadline=domain["deadline"]
    )


async def checked(stored, domain):
    return (await stored.get(DOMAINS, domain["_id"]))["last_check"]


@pytest.mark.spec("D1", "V3")
async def test_domain_added_twice_is_one_look_at_once(stored, publisher):
    domain = await stored.domain("added.scratch.test")
    await stored.set(DOMAINS, domain["_id"], next_check_at=domain["next_check_at"] + FAR)
    envelope = await publisher.send(added(domain), times=3)
    await publisher.processed("dns-verifier", envelope)
    await eventually_async(lambda: checked(stored, domain), timeout=5)
    late = await publisher.send(added(domain))
    await publisher.processed("dns-verifier", late)
    await publisher.settled("dns-verifier")
    found = await stored.get(DOMAINS, domain["_id"])
    assert found["check_attempts"] <= 2  # the second event came later than the look, so it asked for another one
    assert found["state"] == "pending"


@pytest.mark.spec("D4", "V3")
async def test_domain_added_out_of_order_changes_nothing(stored, publisher, surroundings):
    verified = await stored.domain("done.scratch.test", state="verified", next_check_at=None)
    expired = await stored.domain("over.scratch.test", state="expired", next_check_at=None)
    restarted = await stored.domain("again.scratch.test")
    await stored.set(DOMAINS, restarted["_id"], next_check_at=restarted["next_check_at"] + FAR)
    old = restarted | {"deadline": restarted["deadline"] - FAR}
    removed = {"customer_id": "cus_x", "_id": "dom_removed", "name": "no.test", "deadline": restarted["deadline"]}
    stranger = restarted | {"customer_id": "cus_another"}
    before = [await stored.get(DOMAINS, one["_id"]) for one in (verified, expired)]
    sent = [await publisher.send(added(one)) for one in (verified, expired, old, removed, stranger)]
    await publisher.processed("dns-verifier", *sent)
    await asyncio.sleep(1)
    assert [await stored.get(DOMAINS, one["_id"]) for one in (verified, expired)] == before
    assert await checked(stored, restarted) is None


@pytest.mark.spec("D2", "V3")
async def test_a_proven_domain_is_told_on_the_bus(stored, publisher, surroundings):
    domain = await stored.domain("told.scratch.test")
    await asyncio.to_thread(surroundings.named.update, domain["name"], "TXT", [expected_value(domain["code"])])
    await publisher.send(added(domain))

    async def told():
        found = await stored.all(Collections.OUTBOX, name="DomainVerified", customer_id=domain["customer_id"])
        return [entry["state"] for entry in found] == ["sent"]

    await eventually_async(told, timeout=10)


@pytest.mark.spec("D3")
async def test_a_verifier_killed_while_it_looks_is_replaced_by_another(stored, surroundings):
    domain = await stored.domain("killed.scratch.test")
    await asyncio.to_thread(surroundings.named.update, domain["name"], "TXT", [expected_value(domain["code"])])
    port = surroundings.named.port
    stuck = surroundings.surroundings.service(
        "dns", "dns-stuck", surroundings.ports["OPS_EDGE"], POSTERN_DNS_SERVERS=f"127.0.0.9:{port}"
    )
    with silent_server("127.0.0.9", port) as asked:
        unit = Unit(stuck, surroundings.farm.processes)
        unit.launch()
        await eventually_async(lambda: len(asked) > 0, timeout=20)
        unit.kill()
    assert (await stored.get(DOMAINS, domain["_id"]))["lease_until"] is not None
    await asyncio.to_thread(surroundings.units["dns"].start)
    assert await checked(stored, domain) is None
    surroundings.move_clock(61)

    async def verified():
        return (await stored.get(DOMAINS, domain["_id"]))["state"] == "verified"

    await eventually_async(verified, timeout=10)
    surroundings.move_clock(0)
    await asyncio.to_thread(surroundings.units["dns"].stop)


async def test_sigterm_lets_the_look_under_way_end(stored, surroundings):
    port = surroundings.named.port
    slow = surroundings.surroundings.service(
        "dns", "dns-slow", surroundings.ports["OPS_EDGE"], POSTERN_DNS_SERVERS=f"127.0.0.9:{port}"
    )
    unit = Unit(slow, surroundings.farm.processes)
    with silent_server("127.0.0.9", port):
        await asyncio.to_thread(unit.start)
        domain = await stored.domain("draining.scratch.test")

        async def claimed():
            return (await stored.get(DOMAINS, domain["_id"]))["lease_owner"] is not None

        await eventually_async(claimed)
        await asyncio.to_thread(unit.stop)
    assert unit.child is not None
    assert unit.child.process.returncode == 0
    found = await stored.get(DOMAINS, domain["_id"])
    assert (found["last_check"]["reason"], found["lease_owner"]) == ("timeout", None)


@pytest.mark.spec("D3", "V3")
@pytest.mark.parametrize("server", ["mongod", "rabbitmq"])
async def test_a_verifier_goes_on_by_itself_when_a_server_was_away(stored, surroundings, dns, server):
    domain = await stored.domain(f"after-{server}.scratch.test")
    await asyncio.to_thread(surroundings.kill, server)
    await asyncio.sleep(1)
    await asyncio.to_thread(surroundings.named.update, domain["name"], "TXT", [expected_value(domain["code"])])
    await asyncio.to_thread(surroundings.start, server)
    await asyncio.to_thread(surroundings.await_ready, "dns", timeout=60)
    now = await stored.mongo.now()
    await stored.set(DOMAINS, domain["_id"], next_check_at=now, lease_until=None, lease_owner=None)

    async def told():
        found = await stored.all(Collections.OUTBOX, name="DomainVerified", customer_id=domain["customer_id"])
        return [entry["state"] for entry in found] == ["sent"]

    await eventually_async(told, timeout=40)


def test_readiness_and_metrics_tell_what_it_works_with(surroundings, dns):
    url = surroundings.ops_url("dns")
    ready = httpx2.get(f"{url}/readyz?verbose", trust_env=False)
    assert ready.status_code == 200
    assert {line.split(":")[0] for line in ready.text.split()} >= {"database", "broker", "clock", "serving"}
    eventually(lambda: "postern_dns_checks_total" in httpx2.get(f"{url}/metrics", trust_env=False).text)
