"""How MTA-STS policies are found, kept and refreshed (RFC 8461 3.3, 5.1), with time that the tests move."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from postern_common.errors import Temporary
from postern_edge.adapters.policy_files import NotFetched
from postern_edge.rules.mta_sts import KeptPolicy, parse_policy
from postern_edge.rules.tls_policy import TlsFault
from postern_edge.tls_out.sts import LOOKED_UP_SECONDS, RETRY_SECONDS, StsPolicies

FAULT = TlsFault("sts-policy-fetch-error", "http-404")


def policy(mode="enforce", max_age=604800):
    return parse_policy(f"version: STSv1\nmode: {mode}\nmx: mx.a.test\nmax_age: {max_age}\n")


class World:
    """The domain's record and file, what edges keep, and the time."""

    def __init__(self, monkeypatch):
        self.now = datetime(2026, 11, 28, tzinfo=UTC)
        self.record: str | None = "v=STSv1; id=1;"
        self.is_dns_silent = self.is_database_away = False
        self.served = policy()
        self.fault: TlsFault | None = None
        self.kept: dict[str, KeptPolicy] = {}
        self.fetches = 0
        self.began = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self._moved = 0.0
        real = time.monotonic
        monkeypatch.setattr("postern_edge.tls_out.sts.time.monotonic", lambda: real() + self._moved)
        self.edge = self.another_edge()

    def another_edge(self):
        return StsPolicies(self, self, self, lambda: self.now)

    def pass_time(self, **span):
        self._moved += timedelta(**span).total_seconds()
        self.now += timedelta(**span)

    async def texts(self, name):
        assert name == "_mta-sts.a.test"
        if self.is_dns_silent:
            raise Temporary("dns TXT: LifetimeTimeout")
        return [] if self.record is None else [self.record]

    async def fetch(self, domain):
        self.fetches += 1
        self.began.set()
        await self.gate.wait()
        if self.fault is not None:
            raise NotFetched(self.fault)
        return self.served

    async def get(self, domain, now):
        if self.is_database_away:
            raise Temporary("database: away")
        kept = self.kept.get(domain)
        return kept if kept is not None and kept.holds(now) else None

    async def put(self, domain, kept):
        if self.is_database_away:
            raise Temporary("database: away")
        self.kept[domain] = kept

    async def mode(self, edge=None):
        """The mode in force."""
        found = await (edge or self.edge).of("a.test")
        return None if found.policy is None else found.policy.mode

    async def rest(self):
        """Let what goes on in the background end."""
        await asyncio.gather(*self.edge._tasks)


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


@pytest.mark.spec("R11")
async def test_the_first_delivery_fetches_the_policy_and_all_edges_share_it(world):
    assert await world.mode() == "enforce"
    assert await world.mode() == "enforce"
    assert await world.mode(world.another_edge()) == "enforce"
    assert world.fetches == 1


@pytest.mark.spec("R11")
async def test_deliveries_at_once_wait_for_one_fetch(world):
    world.gate.clear()
    waiting = [asyncio.create_task(world.mode()) for _ in range(50)]
    await asyncio.wait_for(world.began.wait(), 5)
    world.gate.set()
    assert set(await asyncio.gather(*waiting)) == {"enforce"}
    assert world.fetches == 1


@pytest.mark.spec("R11")
async def test_a_delivery_that_is_given_up_does_not_end_the_fetch_of_the_others(world):
    world.gate.clear()
    first, second = asyncio.create_task(world.mode()), asyncio.create_task(world.mode())
    await asyncio.wait_for(world.began.wait(), 5)
    first.cancel()
    await asyncio.wait({first})
    world.gate.set()
    assert await second == "enforce"


@pytest.mark.spec("R11")
async def test_without_a_record_nothing_is_fetched(world):
    world.record = None
    assert await world.mode() is None
    assert world.fetches == 0


@pytest.mark.spec("R11")
async def test_a_first_fetch_that_fails_counts_as_no_policy_and_is_repeated_after_a_while(world):
    world.fault = FAULT
    found = await world.edge.of("a.test")
    assert (found.policy, found.fault) == (None, FAULT)
    await world.edge.of("a.test")
    assert world.fetches == 1
    world.fault = None
    world.pass_time(seconds=RETRY_SECONDS + 1)
    assert await world.mode() == "enforce"


@pytest.mark.spec("R11")
async def test_a_kept_policy_holds_without_its_record_or_its_server_until_it_ends(world):
    assert await world.mode() == "enforce"
    world.fault = FAULT
    for record, is_silent in ((None, False), ("v=STSv1; id=2;", False), ("v=STSv1; id=2;", True)):
        world.record, world.is_dns_silent = record, is_silent
        world.pass_time(days=2)
        assert await world.mode() == "enforce"
        assert await world.mode(world.another_edge()) == "enforce"
        await world.rest()
    assert world.fetches > 1  # it was tried
    world.is_dns_silent = False
    world.pass_time(days=2)
    found = await world.edge.of("a.test")
    assert (found.policy, found.fault) == (None, FAULT)


@pytest.mark.spec("R11")
async def test_another_id_brings_the_new_policy_without_holding_up_the_delivery(world):
    assert await world.mode() == "enforce"
    world.record, world.served = "v=STSv1; id=2;", policy("testing")
    world.gate.clear()
    assert await world.mode() == "enforce"
    world.gate.set()
    await world.rest()
    assert await world.mode() == "testing"
    assert (world.kept["a.test"].policy_id, world.fetches) == ("2", 2)


@pytest.mark.spec("R11")
async def test_a_policy_is_renewed_daily_so_that_it_never_ends_while_it_is_served(world):
    for _ in range(10):
        assert await world.mode() == "enforce"
        await world.rest()
        world.pass_time(hours=25)
    assert world.fetches == 10
    assert world.kept["a.test"].holds(world.now + timedelta(days=5))


@pytest.mark.spec("R11")
async def test_a_policy_that_may_not_be_kept_is_heeded_and_not_fetched_for_each_delivery(world):
    world.served = policy(max_age=0)
    for _ in range(5):
        assert await world.mode() == "enforce"
    await world.rest()
    assert world.fetches == 1
    world.record = None
    world.pass_time(minutes=6)
    assert await world.mode() is None


@pytest.mark.spec("R11")
async def test_when_a_policy_ends_one_that_another_edge_fetched_meanwhile_takes_its_place(world):
    world.served = policy("testing", max_age=86400)
    assert await world.mode() == "testing"
    world.fault = FAULT
    world.pass_time(hours=23, minutes=59)
    assert await world.mode() == "testing"
    await world.rest()
    world.kept["a.test"], world.record = KeptPolicy(policy(), "1", world.now), None
    world.pass_time(minutes=2)
    assert await world.mode() == "enforce"


@pytest.mark.spec("R11")
async def test_what_another_edge_fetched_is_seen_in_a_while(world):
    assert await world.mode() == "enforce"
    world.kept["a.test"] = KeptPolicy(policy("none"), "1", world.now + timedelta(seconds=1))
    world.pass_time(seconds=LOOKED_UP_SECONDS + 1)
    assert await world.mode() == "none"


@pytest.mark.spec("R11")
async def test_while_nobody_can_tell_whether_a_policy_is_in_force_the_delivery_waits(world):
    world.is_database_away = True
    with pytest.raises(Temporary):
        await world.mode()
    world.is_database_away = False
    assert await world.mode() == "enforce"


@pytest.mark.spec("R11")
async def test_a_policy_that_cannot_be_stored_holds_in_this_edge(world):
    assert await world.mode() == "enforce"
    world.record, world.served = "v=STSv1; id=2;", policy("testing")
    world.is_database_away = True
    await world.mode()
    await world.rest()
    assert await world.mode() == "testing"


@pytest.mark.spec("R11")
async def test_a_delivery_does_not_wait_for_ever_for_its_turn_to_fetch_nor_goes_without(world, monkeypatch):
    monkeypatch.setattr("postern_edge.tls_out.sts.WAIT_SECONDS", 0.05)
    world.gate.clear()
    with pytest.raises(Temporary):
        await world.mode()
    world.gate.set()
    await world.rest()
    assert await world.mode() == "enforce"
    assert world.fetches == 1


@pytest.mark.spec("R11")
async def test_closing_gives_up_what_is_being_fetched(world):
    world.gate.clear()
    waiting = asyncio.create_task(world.edge.of("a.test"))
    await asyncio.wait_for(world.began.wait(), 5)
    await world.edge.close()
    assert (await waiting).policy is None
