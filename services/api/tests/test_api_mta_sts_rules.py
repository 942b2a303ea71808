"""What may be done with a hosted policy, decided without any server; and which Host header asks for which domain."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_api.domains.mta_sts import serving
from postern_api.domains.mta_sts.serving import PolicyCache, domain_of, policy_app
from postern_api.domains.rules.mta_sts import (
    binding_until,
    is_fresh,
    is_removable,
    live_hosts,
    policy_for,
)
from postern_common.addresses import parse_domain
from postern_common.errors import Temporary

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MODES = st.sampled_from(["none", "testing", "enforce"])


def stored(mode="testing", max_age=604_800, until=None):
    return {"mode": mode, "max_age": max_age, "mx": ["mx1.postern.test"], "binding_until": until}


@pytest.mark.spec("R11")
def test_ages_are_a_week_or_a_day_where_nobody_chose_them():
    assert policy_for("testing", None, ["mx1.a.test"], []).max_age == 604_800
    assert policy_for("none", None, ["mx1.a.test"], []).max_age == 86_400
    assert policy_for("enforce", 90_000, ["mx1.a.test"], ["mx1.a.test", "*.b.test"]).mx == ("mx1.a.test", "*.b.test")


@pytest.mark.spec("R11")
@given(st.lists(st.tuples(MODES, st.integers(86_400, 31_557_600), st.integers(0, 400)), min_size=1, max_size=8))
def test_no_policy_is_removable_before_all_that_were_served_have_gone(history):
    """Each policy is served from its change to the next one; senders keep it for its max_age after that."""
    now, held = NOW, []
    present: dict = {}
    for mode, max_age, days in history:
        present = stored(mode, max_age, binding_until(present or None, now))
        now += days * DAY
        if mode != "none":
            held.append(now + timedelta(seconds=max_age))
    assert is_removable(present, now) == all(end <= now for end in held)


@pytest.mark.spec("R11")
def test_a_policy_in_force_is_never_removable_and_one_of_mode_none_once_nobody_holds_another():
    assert not is_removable(stored("enforce"), NOW)
    assert not is_removable(stored("testing", until=NOW - DAY), NOW)
    assert not is_removable(stored("none", until=NOW + DAY), NOW)
    assert is_removable(stored("none", until=NOW), NOW)
    assert is_removable(stored("none"), NOW)


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    ("mx", "hosts"),
    [
        (None, None),
        ({"state": "cannot_tell", "found": []}, None),
        ({"state": "cannot_tell", "found": ["10 mx.a.test"]}, ("mx.a.test",)),
        ({"state": "warn", "found": ["10 MX.a.test.", "20 mx2.a.test"]}, ("mx.a.test", "mx2.a.test")),
        ({"state": "fail", "found": []}, ("acme.test",)),
        ({"state": "fail", "found": ["0 ."]}, ()),
    ],
)
def test_where_mail_goes_is_told_by_the_records_and_by_the_domain_without_any(mx, hosts):
    assert live_hosts("acme.test", mx) == hosts


@pytest.mark.spec("R11")
def test_hosts_left_out_are_named():
    policy = policy_for("enforce", None, ["mx1.a.test"], ["*.b.test"])
    assert policy.leaves_out(["mx1.a.test", "mx2.a.test", "x.b.test", "acme.test"]) == ("mx2.a.test", "acme.test")


def test_a_look_is_fresh_for_some_minutes():
    assert is_fresh({"checked_at": NOW - timedelta(minutes=9)}, NOW)
    assert not is_fresh({"checked_at": NOW - timedelta(minutes=11)}, NOW)
    assert not is_fresh(None, NOW)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("mta-sts.acme.com", "acme.com"),
        ("MTA-STS.Acme.COM:443", "acme.com"),
        ("mta-sts.acme.com.", "acme.com"),
        ("mta-sts.xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("acme.com", None),
        ("mta-sts.", None),
        ("mta-sts.com", None),
        ("x.mta-sts.acme.com", None),
        ("mta-sts.acme.com/../x", None),
        ("mta-sts.192.0.2.1", None),
        ("mta-sts.$where.com", None),
        ("", None),
    ],
)
@pytest.mark.spec("R11")
def test_only_the_name_that_senders_ask_for_leads_to_a_domain(host, domain):
    assert domain_of(host) == domain


@given(st.text(max_size=80))
def test_no_host_breaks_it(host):
    for asked in (host, "mta-sts." + host):
        domain = domain_of(asked)
        assert domain is None or parse_domain(domain).ascii == domain


class Kept:
    """Policies in memory; counts how often it is asked, and is away if told so."""

    def __init__(self, **policies):
        self.policies = policies
        self.asked = 0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def of(self, name):
        self.asked += 1
        await self.gate.wait()
        if self.away:
            raise Temporary("the database is away")
        return self.policies.get(name.replace(".", "_"))


async def test_a_crowd_of_senders_costs_one_look_up_for_a_moment():
    policies = Kept(acme_test=stored())
    cache = PolicyCache(policies)
    assert [await cache.text("acme.test") for _ in range(50)] == [await cache.text("acme.test")] * 50
    assert [await cache.text("other.test") for _ in range(50)] == [None] * 50
    assert policies.asked == 2
    fresh = PolicyCache(policies, kept_seconds=0)
    await fresh.text("acme.test")
    await fresh.text("acme.test")
    assert policies.asked == 4


async def test_a_crowd_that_comes_at_once_costs_one_look_up_and_none_of_it_is_turned_away():
    policies = Kept(acme_test=stored())
    policies.gate.clear()
    cache = PolicyCache(policies)
    crowd = [asyncio.create_task(cache.text("acme.test")) for _ in range(serving.MAX_LOOKUPS * 5)]
    await asyncio.sleep(0)
    crowd.pop().cancel()  # whoever goes away takes nobody's answer along
    policies.gate.set()
    assert None not in await asyncio.gather(*crowd)
    assert policies.asked == 1


async def test_look_ups_of_many_names_at_once_are_bounded():
    policies = Kept()
    policies.gate.clear()
    cache = PolicyCache(policies)
    looking = [asyncio.create_task(cache.text(f"n{number}.test")) for number in range(serving.MAX_LOOKUPS)]
    await asyncio.sleep(0)
    with pytest.raises(Temporary):
        await cache.text("acme.test")
    policies.gate.set()
    await asyncio.gather(*looking)
    assert await cache.text("acme.test") is None


async def test_what_is_remembered_of_names_is_bounded(monkeypatch):
    monkeypatch.setattr(serving, "MAX_KEPT", 3)
    policies = Kept(acme_test=stored())
    cache = PolicyCache(policies)
    for number in range(20):
        await cache.text(f"n{number}.test")
    assert len(cache._kept) == 3


async def test_while_the_database_is_away_the_answer_is_to_come_again():
    policies = Kept(acme_test=stored())
    policies.away = True
    transport = httpx2.ASGITransport(app=policy_app(policies))
    async with httpx2.AsyncClient(transport=transport, base_url="http://mta-sts.acme.test") as client:
        answer = await client.get("/.well-known/mta-sts.txt")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        policies.away = False
        assert (await client.get("/.well-known/mta-sts.txt")).status_code == 200
