"""Several verifiers share the work: nothing is looked at twice, stays with a dead one or is overwritten."""

import asyncio
from datetime import timedelta

import pytest

from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_dns.inspection import Inspector
from postern_dns.rules.answers import Answer, Look, Server, Status
from postern_dns.schedule import Schedule
from postern_dns.store import DomainStore
from tests.servers.stored import Stored, connect
from tests.servers.waiting import eventually_async

DOMAINS = Collections.DOMAINS


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


@pytest.fixture
async def stored(mongo_uri, database, clock):
    mongo = connect(mongo_uri, database, clock)
    await mongo.ensure_indexes()
    yield Stored(mongo)
    mongo.close()


class Names:
    """Name servers that answer when told to, and remember what they were asked."""

    def __init__(self, *, open_=True):
        self.asked = []
        self.gate = asyncio.Event()
        if open_:
            self.gate.set()

    async def look(self, name, kind, *, follow=True):
        self.asked.append(name)
        await self.gate.wait()
        return Look(name, None, (Answer(Server("ns", "192.0.2.1"), Status.NO_DATA),))

    def looks_at(self, domain):
        return self.asked.count(domain["name"])


def schedule(stored, names, **options):
    return Schedule(DomainStore(stored.mongo), Inspector(names), poll_seconds=0.05, **options)


async def stop(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.spec("D3")
async def test_many_verifiers_look_at_each_due_domain_once(stored):
    domains = [await stored.domain(f"d{number}.test") for number in range(60)]
    names = Names()
    verifiers = [schedule(stored, names, concurrency=5) for _ in range(4)]
    running = [asyncio.create_task(verifier.run()) for verifier in verifiers]

    async def all_checked():
        return all(domain["last_check"] for domain in await stored.all(DOMAINS))

    await eventually_async(all_checked, timeout=30)
    await asyncio.gather(*(verifier.drain() for verifier in verifiers))
    await stop(*running)
    assert {names.looks_at(domain) for domain in domains} == {1}
    assert {domain["check_attempts"] for domain in await stored.all(DOMAINS)} == {1}


@pytest.mark.spec("D3")
async def test_concurrency_is_bounded(stored):
    for number in range(10):
        await stored.domain(f"d{number}.test")
    names = Names(open_=False)
    verifier = schedule(stored, names, concurrency=3)
    running = asyncio.create_task(verifier.run())
    await eventually_async(lambda: len(names.asked) == 6)
    await asyncio.sleep(0.3)
    assert len(names.asked) == 6  # two names for each of three domains
    names.gate.set()
    await eventually_async(lambda: len([name for name in names.asked if name.startswith("d")]) == 10, timeout=20)
    await verifier.drain()
    await stop(running)


@pytest.mark.spec("D2")
async def test_somebody_who_waits_comes_before_domains_that_are_due_for_longer(stored):
    for number in range(5):
        await stored.domain(f"d{number}.test")
    waiting = await stored.domain("waiting.test")
    now = await stored.mongo.now()
    await stored.set(DOMAINS, waiting["_id"], requested_at=now, next_check_at=now)
    names = Names()
    verifier = schedule(stored, names, concurrency=1)
    await verifier.claim_due()
    await verifier.drain()
    assert names.asked[0] == "waiting.test"


@pytest.mark.spec("D3")
async def test_a_dead_verifiers_lease_lapses_and_its_domain_is_taken_over(stored, tmp_path):
    domain = await stored.domain("held.test")
    stuck, alive = Names(open_=False), Names()
    dead = schedule(stored, stuck)
    await dead.claim_due()
    await eventually_async(lambda: stuck.looks_at(domain) == 1)
    await stop(*dead._tasks)  # as a killed process: nothing is written, nothing is released
    other = schedule(stored, alive)
    await other.claim_due()
    assert alive.asked == []
    (tmp_path / "clock").write_text("61")
    await other.claim_due()
    await other.drain()
    assert alive.looks_at(domain) == 1
    assert (await stored.get(DOMAINS, domain["_id"]))["last_check"]["reason"] == "no_txt"


@pytest.mark.spec("D3")
async def test_a_verifier_that_lost_its_lease_writes_nothing(stored, tmp_path):
    domain = await stored.domain("slow.test")
    names = Names(open_=False)
    slow, quick = schedule(stored, names), schedule(stored, Names())
    await slow.claim_due()
    await eventually_async(lambda: names.looks_at(domain) == 1)
    (tmp_path / "clock").write_text("61")
    await quick.claim_due()
    await quick.drain()
    first = await stored.get(DOMAINS, domain["_id"])
    names.gate.set()
    await slow.drain()
    assert await stored.get(DOMAINS, domain["_id"]) == first


@pytest.mark.parametrize(
    "change", [{"state": "expired"}, {"code": "another"}, {"lease_owner": "run_other"}], ids=["state", "code", "lease"]
)
async def test_a_result_for_a_domain_that_changed_meanwhile_is_dropped(stored, change):
    domain = await stored.domain("changing.test")
    names = Names(open_=False)
    verifier = schedule(stored, names)
    await verifier.claim_due()
    await eventually_async(lambda: names.looks_at(domain) == 1)
    await stored.set(DOMAINS, domain["_id"], **change)
    names.gate.set()
    await verifier.drain()
    found = await stored.get(DOMAINS, domain["_id"])
    assert found["last_check"] is None
    assert found["check_attempts"] == 0


async def test_a_domain_removed_while_it_is_looked_at_does_not_come_back(stored):
    domain = await stored.domain("removed.test")
    names = Names(open_=False)
    verifier = schedule(stored, names)
    await verifier.claim_due()
    await eventually_async(lambda: names.looks_at(domain) == 1)
    await stored.mongo.db["domains"].delete_one({"_id": domain["_id"]})
    names.gate.set()
    await verifier.drain()
    assert await stored.all(DOMAINS) == []


@pytest.mark.spec("D2")
async def test_verify_pressed_during_a_look_is_answered_by_another_one(stored):
    domain = await stored.domain("pressed.test")
    names = Names(open_=False)
    verifier = schedule(stored, names)
    running = asyncio.create_task(verifier.run())
    await eventually_async(lambda: names.looks_at(domain) == 1)
    await asyncio.sleep(0.02)
    now = await stored.mongo.now()
    await stored.set(DOMAINS, domain["_id"], requested_at=now, next_check_at=now)
    names.gate.set()

    async def answered():
        found = await stored.get(DOMAINS, domain["_id"])
        return found["last_check"] and found["last_check"]["at"] >= found["requested_at"]

    await eventually_async(answered)
    assert names.looks_at(domain) == 2
    await verifier.drain()
    await stop(running)


async def test_a_look_that_fails_by_a_bug_is_tried_again_after_its_lease(stored, tmp_path):
    domain = await stored.domain("buggy.test")

    class Broken(Names):
        async def look(self, name, kind, *, follow=True):
            self.asked.append(name)
            raise RuntimeError("a bug")

    names = Broken()
    verifier = schedule(stored, names, lease=timedelta(seconds=30))
    running = asyncio.create_task(verifier.run())
    await eventually_async(lambda: names.looks_at(domain) == 1)
    await asyncio.sleep(0.3)
    assert names.looks_at(domain) == 1
    (tmp_path / "clock").write_text("31")
    await eventually_async(lambda: names.looks_at(domain) == 2)
    await stop(running)


async def test_ids_of_claims_differ_between_claims(stored):
    store = DomainStore(stored.mongo)
    await stored.domain("twice.test")
    now = await stored.mongo.now()
    first = await store.claim_check(now, timedelta(seconds=0))
    second = await store.claim_check(now, timedelta(seconds=0))
    assert first
    assert second
    assert first["lease_owner"] != second["lease_owner"]
    assert new_id("run")[:4] == first["lease_owner"][:4]
