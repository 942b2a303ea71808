"""Users found by the mail that their own server takes, and addresses that are known without a user (SPEC U5, R4)."""

import asyncio

import pytest

from postern_common.clock import Clock
from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_edge.outbound.store import DiscoveryStore
from postern_edge.rules.paths import Mailbox
from postern_edge.rules.recipients import Verdict
from postern_sync.discovery.loop import Discovery
from tests.servers.edge_inside import CUSTOMER, DOMAIN, InsideEdge, edge, message, settled  # noqa: F401
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.stored import Stored, connect
from tests.servers.waiting import eventually_async


@pytest.fixture
async def stored(mongo_uri, database):
    mongo = connect(mongo_uri, database, Clock())
    await mongo.ensure_indexes()
    yield Stored(mongo)
    mongo.close()


async def notes(edge):
    await edge.edge.discoveries.flush()
    found = await edge.raw(Collections.DISCOVERIES).find({}).to_list(None)
    return {note["key"] for note in found}


@pytest.mark.spec("U5")
async def test_a_recipient_that_the_customers_server_takes_is_noted_and_one_it_refuses_is_not(edge, hop):
    hop.recipients = {f"nobody@{DOMAIN}": "550 5.1.1 no such user"}
    await edge.seed(hop, recipient_mode="discover")
    await edge.start()
    recipients = [f"{local}@{DOMAIN}" for local in ("New.One", "nobody", "postmaster", "ann+tag")]
    await edge.edge.spool.accept(message(recipients))
    await settled(edge, direction="inbound")
    assert await notes(edge) == {f"new.one@{DOMAIN}"}
    await edge.edge.spool.accept(message(recipients[:1]))
    await settled(edge, direction="inbound")
    assert await notes(edge) == {f"new.one@{DOMAIN}"}


@pytest.mark.spec("U5")
async def test_discovery_is_off_by_default(edge, hop):
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await settled(edge)
    assert await notes(edge) == set()


@pytest.mark.spec("U5", "T9")
async def test_nobody_is_noted_while_the_customer_is_suspended(edge, hop):
    await edge.seed(hop, recipient_mode="discover", state="suspended")
    await edge.start()
    await edge.edge.spool.accept(message([f"new.one@{DOMAIN}"]))
    await settled(edge, direction="inbound")
    assert await notes(edge) == set()


@pytest.mark.spec("U5")
async def test_mail_without_a_sender_shows_nothing(edge, hop):
    await edge.seed(hop, recipient_mode="discover")
    await edge.start()
    await edge.edge.spool.accept(message(sender=""))
    await settled(edge)
    assert await notes(edge) == set()


async def _discovering(stored, domain="demo.test", **fields):
    customer = (await stored.customer(recipient_mode="discover", **fields))["_id"]
    await stored.domain(domain, customer_id=customer, state="verified")
    return customer


async def _note(stored, customer, address):
    note = {"_id": new_id("dis"), "customer_id": customer, "address": address, "key": address.lower()}
    await stored.put(Collections.DISCOVERIES, note | {"seen_at": await stored.mongo.now()})


@pytest.mark.spec("U5", "V3")
async def test_a_note_becomes_one_user_whoever_works_on_it(stored):
    customer = await _discovering(stored)
    await _note(stored, customer, "New.One@demo.test")
    await asyncio.gather(*(Discovery(stored.mongo).look() for _ in range(5)))
    (user,) = await stored.all(Collections.USERS)
    assert (user["email"], user["email_key"], user["source"]) == ("New.One@demo.test", "new.one@demo.test", "smtp")
    (address,) = await stored.all(Collections.ADDRESSES)
    assert (address["key"], address["user_id"], address["verified"]) == ("new.one@demo.test", user["_id"], True)
    assert await stored.events() == [("UserAdded", user["_id"])]
    assert await stored.all(Collections.DISCOVERIES) == []


@pytest.mark.spec("U5", "T9")
async def test_nobody_is_made_while_the_customer_is_suspended(stored):
    customer = await _discovering(stored, state="suspended")
    await _note(stored, customer, "ann@demo.test")
    await Discovery(stored.mongo).look()
    assert (await stored.all(Collections.USERS), await stored.all(Collections.DISCOVERIES)) == ([], [])


@pytest.mark.spec("U5", "T6")
async def test_without_a_licence_or_against_the_customers_will_nobody_is_made(stored):
    full = await _discovering(stored, allowed_users=0)
    await _note(stored, full, "ann@demo.test")
    off = (await stored.customer())["_id"]
    await stored.domain("other.test", customer_id=off, state="verified")
    await _note(stored, off, "bob@other.test")
    pending = (await stored.customer(recipient_mode="discover"))["_id"]
    await stored.domain("third.test", customer_id=pending, state="pending")
    await _note(stored, pending, "cat@third.test")
    assert await Discovery(stored.mongo).look() == 3
    assert await stored.all(Collections.USERS) == []
    assert await stored.all(Collections.DISCOVERIES) == []
    (known,) = await stored.all(Collections.KNOWN_ADDRESSES)
    assert (known["customer_id"], known["key"], known["reason"]) == (full, "ann@demo.test", "licence_discovered")


@pytest.mark.spec("U5", "T6", "R4")
async def test_an_address_without_a_licence_is_known_until_it_gets_its_user(stored):
    customer = await _discovering(stored, allowed_users=0)
    for _ in range(2):
        await _note(stored, customer, "Ann@demo.test")
        await Discovery(stored.mongo).look()
    (known,) = await stored.all(Collections.KNOWN_ADDRESSES)
    assert (known["key"], known["domain"]) == ("ann@demo.test", "demo.test")
    await stored.set(Collections.CUSTOMERS, customer, allowed_users=1)
    await _note(stored, customer, "Ann@demo.test")
    await Discovery(stored.mongo).look()
    assert [user["email"] for user in await stored.all(Collections.USERS)] == ["Ann@demo.test"]
    assert await stored.all(Collections.KNOWN_ADDRESSES) == []


@pytest.mark.spec("U5", "U4")
async def test_an_address_that_the_directory_has_is_left_to_the_directory(stored):
    customer = await _discovering(stored)
    known = {"customer_id": customer, "key": "ann@demo.test", "domain": "demo.test", "reason": "duplicate_primary"}
    await stored.put(Collections.KNOWN_ADDRESSES, known)
    await _note(stored, customer, "ann@demo.test")
    await Discovery(stored.mongo).look()
    assert await stored.all(Collections.USERS) == await stored.all(Collections.DISCOVERIES) == []
    (row,) = await stored.all(Collections.KNOWN_ADDRESSES)
    assert row["reason"] == "duplicate_primary"


@pytest.mark.spec("U5")
async def test_several_edges_that_see_an_address_at_once_note_it_once(edge, stored):
    now = await stored.mongo.now()
    puts = [DiscoveryStore(stored.mongo).put(CUSTOMER, f"new@{DOMAIN}", f"new@{DOMAIN}", now) for _ in range(10)]
    await asyncio.gather(*puts)
    assert await notes(edge) == {f"new@{DOMAIN}"}
    assert len(await stored.all(Collections.DISCOVERIES)) == 1


@pytest.mark.spec("U5", "U4")
async def test_an_address_that_somebody_has_by_now_stays_theirs(stored):
    customer = await _discovering(stored)
    await stored.user("ann@demo.test", customer_id=customer, verified=True)
    await _note(stored, customer, "ann@demo.test")
    await Discovery(stored.mongo).look()
    assert len(await stored.all(Collections.USERS)) == 1


@pytest.mark.spec("R4")
async def test_an_address_that_the_directory_has_and_no_user_is_taken_under_known_only(edge):
    await edge.seed(recipient_mode="known_only")
    known = {"customer_id": CUSTOMER, "domain": DOMAIN, "reason": "licence_limit"}
    await edge.raw(Collections.KNOWN_ADDRESSES).insert_one({**known, "_id": "k1", "key": f"early@{DOMAIN}"})
    await edge.raw(Collections.KNOWN_ADDRESSES).insert_one(
        {**known, "_id": "k2", "key": f"foreign@{DOMAIN}", "customer_id": "cus_other"}
    )
    await edge.start(["directory"])

    def verdict(local):
        return edge.edge.directory.lookup(Mailbox(local, DOMAIN)).verdict

    assert verdict("early") is Verdict.ACCEPT
    assert verdict("EARLY+tag") is Verdict.ACCEPT
    assert verdict("foreign") is Verdict.UNKNOWN_USER
    await edge.raw(Collections.KNOWN_ADDRESSES).insert_one({**known, "_id": "k3", "key": f"late@{DOMAIN}"})
    await eventually_async(lambda: verdict("late") is Verdict.ACCEPT, pause=0.02)
    await edge.raw(Collections.KNOWN_ADDRESSES).delete_one({"_id": "k3"})
    await eventually_async(lambda: verdict("late") is Verdict.UNKNOWN_USER, pause=0.02)
