"""Domains are proven, expire, are claimed twice: the verifier's work on a real database and a real name server."""

import asyncio
from datetime import timedelta
from ipaddress import ip_network

import pytest

from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.events import CATALOGUE
from postern_common.netguard import NetGuard
from postern_dns.adapters.resolver import Limits, Resolver, configured_resolvers
from postern_dns.inspection import Inspector
from postern_dns.rules.ownership import expected_value
from postern_dns.schedule import Schedule
from postern_dns.settlement import REMOVAL_BATCH
from postern_dns.store import DomainStore
from tests.servers.stored import Stored, connect, move  # noqa: F401

DOMAINS, USERS, ADDRESSES = Collections.DOMAINS, Collections.USERS, Collections.ADDRESSES
HOUR = timedelta(hours=1)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


@pytest.fixture
async def stored(mongo_uri, database, clock):
    mongo = connect(mongo_uri, database, clock)
    await mongo.ensure_indexes()
    yield Stored(mongo)
    mongo.close()


@pytest.fixture
def verifier(stored, named):
    """Starts what one verifier process runs; `look` lets it do what is due now."""

    def make(**options):
        servers = configured_resolvers([f"{named.host}:{named.port}"])
        guard = NetGuard([ip_network("127.0.0.0/8")])
        resolver = Resolver(servers, guard, port=named.port, limits=Limits(1.0, 5.0))
        inspector = Inspector(resolver, own_mx_hosts=["mx.scratch.test"], spf_include="spf.scratch.test")
        return Schedule(DomainStore(stored.mongo), inspector, **options)

    return make


@pytest.fixture
def publish(named):
    """Publishes the code of a domain, or texts, as its owner would; cleared after the test."""
    touched = set()

    async def put(name, *texts):
        touched.add(name)
        await asyncio.to_thread(named.update, name, "TXT", texts)

    yield put
    for name in touched:
        named.update(name, "TXT", [])


async def look(*verifiers):
    """Everything due is claimed and looked at."""
    for _ in range(3):
        await asyncio.gather(*(verifier.claim_due() for verifier in verifiers))
        while tasks := [task for verifier in verifiers for task in verifier._tasks]:
            await asyncio.wait(tasks)


def value_of(domain):
    return expected_value(domain["code"])


async def ask_to_verify(stored, *domains):
    """What the API does when somebody presses Verify."""
    now = await stored.mongo.now()
    for domain in domains:
        await stored.set(DOMAINS, domain["_id"], requested_at=now, next_check_at=now)


@pytest.mark.spec("D1", "D2", "V3")
async def test_a_published_code_verifies_the_domain_with_its_event(stored, verifier, publish):
    domain = await stored.domain("one.scratch.test")
    await publish("_postern-challenge.one.scratch.test", value_of(domain))
    await look(verifier())
    found = await stored.get(DOMAINS, domain["_id"])
    assert (found["state"], found["detail"], found["next_check_at"]) == ("verified", None, None)
    assert (found["last_check"]["outcome"], found["last_check"]["reason"]) == ("match", "verified")
    assert found["last_check"]["servers"][0]["address"] == "127.0.0.1"
    assert found["verified_at"] >= found["last_check"]["at"]
    assert found["lease_owner"] is None
    assert found["version"] == domain["version"] + 1
    assert await stored.events("DomainVerified") == [("DomainVerified", domain["_id"])]


@pytest.mark.spec("D2")
async def test_every_press_of_verify_is_answered_by_a_fresh_look(stored, verifier, publish):
    domain = await stored.domain("press.scratch.test")
    looking = verifier()
    await look(looking)
    for texts, reason in ([["x"], "txt_present_no_match"], [[], "nxdomain"], [["y"], "txt_present_no_match"]):
        await publish("press.scratch.test", *texts)
        await ask_to_verify(stored, domain)
        requested = (await stored.get(DOMAINS, domain["_id"]))["requested_at"]
        await look(looking)
        found = await stored.get(DOMAINS, domain["_id"])
        assert (found["state"], found["last_check"]["reason"]) == ("pending", reason)
        assert found["last_check"]["at"] >= requested
        assert found["next_check_at"] > found["last_check"]["at"]
    await publish("press.scratch.test", value_of(domain))
    await ask_to_verify(stored, domain)
    await look(looking)
    assert (await stored.get(DOMAINS, domain["_id"]))["state"] == "verified"


@pytest.mark.spec("D3", "D7")
async def test_a_pending_domain_is_looked_at_for_72_hours_warned_and_expired(stored, verifier, publish, move):
    domain = await stored.domain("slow.scratch.test")
    looking = verifier()
    hours = [0, 1, 23, 47, 48.1, 60, 71.9, 72.01, 80]
    states = []
    for hour in hours:
        move(hour * HOUR)
        await look(looking)
        found = await stored.get(DOMAINS, domain["_id"])
        states.append((found["state"], found["expiry_warned_at"] is not None, found["check_attempts"]))
    assert states == [
        ("pending", False, 1),
        ("pending", False, 2),
        ("pending", False, 3),
        ("pending", False, 4),
        ("pending", True, 5),
        ("pending", True, 6),
        ("pending", True, 7),
        ("expired", True, 8),
        ("expired", True, 8),
    ]
    events = await stored.events()
    assert events == [
        ("SetupStateChanged", domain["customer_id"]),
        ("DomainVerificationExpired", domain["_id"]),
    ]
    [warning] = await stored.all(Collections.OUTBOX, name="SetupStateChanged")
    assert warning["envelope"]["data"]["detail"] == "slow.scratch.test"


@pytest.mark.spec("D3")
async def test_the_button_works_on_an_expired_domain_and_its_code_is_kept(stored, verifier, publish):
    domain = await stored.domain("late.scratch.test", state="expired", next_check_at=None)
    await ask_to_verify(stored, domain)
    await look(verifier())
    found = await stored.get(DOMAINS, domain["_id"])
    assert (found["state"], found["last_check"]["outcome"], found["next_check_at"]) == ("expired", "absent", None)
    await publish("late.scratch.test", value_of(domain))
    await ask_to_verify(stored, domain)
    await look(verifier())
    assert (await stored.get(DOMAINS, domain["_id"]))["state"] == "verified"
    assert await stored.events("DomainVerificationExpired") == []


@pytest.mark.spec("D4")
async def test_no_look_up_takes_a_verified_domain_away(stored, verifier, publish, named):
    gone = await stored.domain("gone.scratch.test", state="verified", next_check_at=None)
    unserved = await stored.domain("unserved.invalid", state="verified", next_check_at=None)
    await ask_to_verify(stored, gone, unserved)
    await look(verifier())
    for domain, reason in ((gone, "nxdomain"), (unserved, "refused")):
        found = await stored.get(DOMAINS, domain["_id"])
        assert (found["state"], found["last_check"]["reason"]) == ("verified", reason)
        assert found["next_check_at"] is None
        assert found["version"] == domain["version"]
    assert await stored.events("DomainVerificationExpired", "DomainTransferRequested") == []


@pytest.mark.spec("D4")
async def test_case_34_only_the_claimant_whose_code_is_published_gets_the_domain(stored, verifier, publish):
    a, b = [await stored.domain("claimed.scratch.test") for _ in range(2)]
    await publish("claimed.scratch.test", value_of(b))
    await ask_to_verify(stored, a, b)
    await look(verifier(), verifier())
    found_a, found_b = [await stored.get(DOMAINS, domain["_id"]) for domain in (a, b)]
    assert (found_a["state"], found_a["detail"]) == ("pending", "verified_elsewhere")
    assert (found_b["state"], found_b["detail"]) == ("verified", None)
    assert await stored.events("DomainVerified") == [("DomainVerified", b["_id"])]
    assert b["customer_id"] not in str(found_a)


@pytest.mark.spec("D4")
@pytest.mark.parametrize("round_", range(3))
async def test_case_34_two_that_prove_one_domain_at_the_same_time_do_not_both_get_it(stored, verifier, publish, round_):
    claims = [await stored.domain(f"race{round_}.scratch.test") for _ in range(4)]
    await publish(f"race{round_}.scratch.test", *map(value_of, claims))
    await ask_to_verify(stored, *claims)
    await look(verifier(), verifier(), verifier())
    found = [await stored.get(DOMAINS, claim["_id"]) for claim in claims]
    assert sorted(one["state"] for one in found) == ["pending", "pending", "pending", "verified"]
    for one in found:
        assert one["last_check"]["outcome"] == "match"
        assert one["detail"] == ("verified_elsewhere" if one["state"] == "pending" else None)
        assert one["lease_owner"] is None
    assert len(await stored.events("DomainVerified")) == 1
    assert await stored.events("DomainTransferRequested") == []


@pytest.mark.spec("D4", "U4")
@pytest.mark.parametrize("round_", range(3))
async def test_case_34_the_winner_of_a_race_keeps_the_users_prepared_in_the_domain(stored, verifier, publish, round_):
    name = f"kept{round_}.scratch.test"
    claims = [await stored.domain(name, customer_id=f"cus_{number}") for number in range(3)]
    for claim in claims:
        await stored.user(f"ann@{name}", customer_id=claim["customer_id"])
    await publish(name, *map(value_of, claims))
    await ask_to_verify(stored, *claims)
    await look(verifier(), verifier(), verifier())
    [winner] = await stored.all(DOMAINS, state="verified")
    assert [user["customer_id"] for user in await stored.all(USERS)] == [winner["customer_id"]]
    assert [entry["verified"] for entry in await stored.all(ADDRESSES)] == [True]


@pytest.mark.spec("D4")
async def test_a_proof_against_an_absent_holder_asks_for_a_transfer_once_and_moves_nothing(stored, verifier, publish):
    holder = await stored.domain("moved.scratch.test", state="verified", next_check_at=None)
    claimant = await stored.domain("moved.scratch.test", detail="verified_elsewhere")
    await publish("moved.scratch.test", value_of(claimant), value_of(holder))
    await look(verifier())
    assert await stored.events() == []
    await publish("moved.scratch.test", value_of(claimant))
    for _ in range(3):
        await ask_to_verify(stored, claimant)
        await look(verifier())
    assert await stored.events() == [("DomainTransferRequested", holder["_id"])]
    [event] = await stored.all(Collections.OUTBOX)
    assert event["customer_id"] == holder["customer_id"]
    assert event["envelope"]["data"]["claimant_customer_id"] == claimant["customer_id"]
    assert (await stored.get(DOMAINS, holder["_id"]))["state"] == "verified"
    found = await stored.get(DOMAINS, claimant["_id"])
    assert (found["state"], found["detail"]) == ("pending", "verified_elsewhere")
    assert "another customer" in found["last_check"]["explanation"]


@pytest.mark.spec("U4", "V3")
async def test_prepared_addresses_become_live_and_others_are_removed_with_events(stored, verifier, publish):
    domain = await stored.domain("mine.scratch.test")
    ours = domain["customer_id"]
    ann = await stored.user("Ann@mine.scratch.test", customer_id=ours, aliases=("a.lee@mine.scratch.test",))
    squatter = await stored.user("ann@mine.scratch.test", customer_id="cus_b", aliases=("x@b.scratch.test",))
    aliased = await stored.user(
        "bob@b.scratch.test", customer_id="cus_b", aliases=("bob@mine.scratch.test", "rob@mine.scratch.test")
    )
    untouched = await stored.user("cy@b.scratch.test", customer_id="cus_b")
    await publish("mine.scratch.test", value_of(domain))
    await look(verifier())

    keys = {(entry["key"], entry["customer_id"], entry["verified"]) for entry in await stored.all(ADDRESSES)}
    assert keys == {
        ("ann@mine.scratch.test", ours, True),
        ("a.lee@mine.scratch.test", ours, True),
        ("bob@b.scratch.test", "cus_b", False),
        ("cy@b.scratch.test", "cus_b", False),
    }
    users = {user["_id"]: user for user in await stored.all(USERS)}
    assert set(users) == {ann["_id"], aliased["_id"], untouched["_id"]}
    assert users[aliased["_id"]]["aliases"] == []
    assert users[aliased["_id"]]["version"] == aliased["version"] + 1
    assert sorted(await stored.events("UserDeleted", "UserUpdated", "DomainVerified")) == sorted(
        [
            ("UserDeleted", squatter["_id"]),
            ("UserUpdated", aliased["_id"]),
            ("DomainVerified", domain["_id"]),
        ]
    )


@pytest.mark.spec("U4")
async def test_any_number_of_others_prepared_addresses_is_removed(stored, verifier, publish):
    domain = await stored.domain("many.scratch.test")
    count = 2 * REMOVAL_BATCH + 7
    for number in range(count):
        await stored.user(f"user{number}@many.scratch.test", customer_id="cus_squatter")
    await publish("many.scratch.test", value_of(domain))
    await look(verifier())
    assert (await stored.get(DOMAINS, domain["_id"]))["state"] == "verified"
    assert await stored.all(ADDRESSES) == []
    assert len(await stored.events("UserDeleted")) == count


@pytest.mark.spec("U4")
async def test_an_unproven_claim_removes_nobody(stored, verifier, publish):
    domain = await stored.domain("theirs.scratch.test")
    holder = await stored.domain("theirs.scratch.test", state="verified", next_check_at=None)
    user = await stored.user("ann@theirs.scratch.test", customer_id=holder["customer_id"], verified=True)
    await publish("theirs.scratch.test", value_of(domain), value_of(holder))
    await look(verifier())
    assert [found["_id"] for found in await stored.all(USERS)] == [user["_id"]]
    assert [found["verified"] for found in await stored.all(ADDRESSES)] == [True]


@pytest.mark.spec("D4")
async def test_mx_and_spf_of_verified_domains_are_looked_at_daily(stored, verifier, publish, named, move):
    domain = await stored.domain("mail.scratch.test")
    await publish("mail.scratch.test", value_of(domain), "v=spf1 include:spf.scratch.test -all")
    await publish("spf.scratch.test", "v=spf1 ip4:192.0.2.0/24 -all")
    await asyncio.to_thread(
        named.update, "mail.scratch.test", "MX", ["10 mx.scratch.test.", "20 old.provider.invalid."]
    )
    looking = verifier()
    await look(looking)
    found = await stored.get(DOMAINS, domain["_id"])
    assert (found["mx"]["state"], found["spf"]["state"]) == ("warn", "ok")
    assert found["mx"]["found"] == ["10 mx.scratch.test", "20 old.provider.invalid"]
    assert 20 * HOUR < found["mail_dns_next_at"] - found["mx"]["checked_at"] < 27 * HOUR
    assert len(await stored.events("SetupStateChanged")) == 2

    late = await stored.user("late@mail.scratch.test", customer_id=domain["customer_id"])
    await asyncio.to_thread(named.update, "mail.scratch.test", "MX", ["10 mx.scratch.test."])
    await look(looking)
    assert (await stored.get(DOMAINS, domain["_id"]))["mx"]["state"] == "warn"
    move(27 * HOUR)
    await look(looking)
    assert (await stored.get(DOMAINS, domain["_id"]))["mx"]["state"] == "ok"
    [event] = (await stored.all(Collections.OUTBOX, name="SetupStateChanged"))[2:]
    assert (event["envelope"]["data"]["step"], event["envelope"]["data"]["state"]) == ("mx", "ok")
    assert [entry["verified"] for entry in await stored.all(ADDRESSES, user_id=late["_id"])] == [True]
    named.update("mail.scratch.test", "MX", [])


@pytest.mark.spec("D4")
async def test_without_host_names_to_compare_with_mx_is_still_looked_at_daily_only(stored, verifier, publish, named):
    domain = await stored.domain("plain-mx.scratch.test", state="verified", next_check_at=None)
    mail_now = await stored.mongo.now()
    await stored.set(DOMAINS, domain["_id"], mail_dns_next_at=mail_now)
    await asyncio.to_thread(named.update, "plain-mx.scratch.test", "MX", ["10 mx.scratch.test."])
    looking = verifier()
    looking._inspector._own_mx_hosts = ()
    await look(looking)
    found = await stored.get(DOMAINS, domain["_id"])
    assert (found["mx"]["state"], found["mx"]["found"]) == ("cannot_tell", ["10 mx.scratch.test"])
    assert found["mail_dns_next_at"] - mail_now > 20 * HOUR
    named.update("plain-mx.scratch.test", "MX", [])


def test_the_events_of_the_verifier_are_in_the_catalogue():
    assert {"DomainVerified", "DomainVerificationExpired", "DomainTransferRequested"} <= set(CATALOGUE)
