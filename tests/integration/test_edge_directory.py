"""The directory in memory follows the database, and says what it cannot know (SPEC R4, D7, U4)."""

import asyncio
import gc
import time
from datetime import UTC, datetime, timedelta

import pytest

from postern_common.documents import Collections
from postern_edge.rules.paths import Mailbox
from postern_edge.rules.recipients import Verdict
from tests.servers.edge_inside import CUSTOMER, DOMAIN, InsideEdge, edge  # noqa: F401
from tests.servers.waiting import eventually_async

USER = "usr_0192f0c1a8b47c3e9d215b7f10aa3c57"


def lookup(edge, local, domain=DOMAIN):
    return edge.edge.directory.lookup(Mailbox(local, domain))


def verdict(edge, local, domain=DOMAIN):
    return lookup(edge, local, domain).verdict


def address(local, domain=DOMAIN, **fields):
    return {
        "customer_id": CUSTOMER, "key": f"{local}@{domain}", "domain": domain, "user_id": USER, "is_primary": True,
        "verified": True, **fields,
    }  # fmt: skip


@pytest.mark.spec("R4")
async def test_a_change_reaches_the_edge_within_a_second(edge):
    await edge.seed(recipient_mode="known_only")
    await edge.start(["directory"])
    assert verdict(edge, "ann") is Verdict.UNKNOWN_USER
    assert verdict(edge, "postmaster") is Verdict.ACCEPT
    began = time.monotonic()
    await edge.raw(Collections.ADDRESSES).insert_one(address("ann"))
    await eventually_async(lambda: verdict(edge, "ann") is Verdict.ACCEPT, pause=0.01)
    assert time.monotonic() - began < 1
    assert lookup(edge, "ANN+news").user_id == USER
    await edge.raw(Collections.CUSTOMERS).update_one({"_id": CUSTOMER}, {"$set": {"plus_addressing": False}})
    await eventually_async(lambda: verdict(edge, "ann+news") is Verdict.UNKNOWN_USER, pause=0.01)
    await edge.raw(Collections.ADDRESSES).delete_many({})
    await eventually_async(lambda: verdict(edge, "ann") is Verdict.UNKNOWN_USER, pause=0.01)


@pytest.mark.spec("D7")
async def test_a_domains_state_decides_who_is_taken(edge):
    await edge.seed()
    await edge.start(["directory"])
    assert verdict(edge, "ann") is Verdict.ACCEPT
    assert verdict(edge, "ann", "nowhere.test") is Verdict.UNKNOWN_DOMAIN
    for state, expected in (
        ("pending", Verdict.PENDING_DOMAIN), ("expired", Verdict.UNKNOWN_DOMAIN), ("verified", Verdict.ACCEPT),
    ):  # fmt: skip
        await edge.raw(Collections.DOMAINS).update_one({"name": DOMAIN}, {"$set": {"state": state}})
        await eventually_async(lambda: verdict(edge, "ann") is expected)  # noqa: B023
    await edge.raw(Collections.DOMAINS).delete_one({"name": DOMAIN})
    await eventually_async(lambda: verdict(edge, "ann") is Verdict.UNKNOWN_DOMAIN)


@pytest.mark.spec("D4")
async def test_another_customers_pending_claim_changes_nothing(edge):
    await edge.seed()
    await edge.raw(Collections.DOMAINS).insert_one(
        {"_id": "dom_claim", "customer_id": "cus_b", "name": DOMAIN, "state": "pending", "site_id": None}
    )
    await edge.start(["directory"])
    assert lookup(edge, "ann").customer_id == CUSTOMER


@pytest.mark.spec("U4")
async def test_a_prepared_address_in_a_pending_domain_takes_no_mail(edge):
    await edge.seed(recipient_mode="known_only")
    await edge.raw(Collections.ADDRESSES).insert_one(address("ann", verified=False))
    await edge.start(["directory"])
    assert verdict(edge, "ann") is Verdict.UNKNOWN_USER
    await edge.raw(Collections.ADDRESSES).update_one({}, {"$set": {"verified": True}})
    await eventually_async(lambda: verdict(edge, "ann") is Verdict.ACCEPT)


@pytest.mark.spec("R4")
async def test_after_a_stale_sync_unknown_is_put_off_not_refused(edge):
    old = datetime.now(UTC) - timedelta(hours=13)
    await edge.seed(recipient_mode="known_only", sync_interval_seconds=6 * 3600, last_good_sync_at=old)
    await edge.start(["directory"])
    assert verdict(edge, "ann") is Verdict.CANNOT_TELL
    fresh = {"last_good_sync_at": datetime.now(UTC)}
    await edge.raw(Collections.CUSTOMERS).update_one({"_id": CUSTOMER}, {"$set": fresh})
    await eventually_async(lambda: verdict(edge, "ann") is Verdict.UNKNOWN_USER)


@pytest.mark.spec("R4")
async def test_without_the_database_the_known_are_taken_and_the_unknown_put_off(mongo_uri, database, vhost):
    edge = InsideEdge(mongo_uri, database, vhost, edge_directory_fresh_seconds=1.0)
    await edge.seed(recipient_mode="known_only")
    await edge.raw(Collections.ADDRESSES).insert_one(address("ann"))
    assert verdict(edge, "ann") is Verdict.CANNOT_TELL
    await edge.start(["directory"])
    assert verdict(edge, "bob") is Verdict.UNKNOWN_USER
    await edge.kill("directory")
    await asyncio.sleep(1.1)
    assert verdict(edge, "ann") is Verdict.ACCEPT
    assert verdict(edge, "bob") is Verdict.CANNOT_TELL
    assert verdict(edge, "ann", "nowhere.test") is Verdict.CANNOT_TELL
    await edge.close()


async def test_changes_made_while_nobody_listened_are_caught_up(edge):
    await edge.seed(recipient_mode="known_only")
    await edge.start(["directory"])
    await edge.kill("directory")
    await edge.raw(Collections.ADDRESSES).insert_one(address("late"))
    await edge.start(["directory"])
    await eventually_async(lambda: verdict(edge, "late") is Verdict.ACCEPT)


async def test_case_73_a_stream_that_cannot_be_resumed_leads_to_a_full_read(edge):
    await edge.seed(recipient_mode="known_only")
    await edge.start(["directory"])
    await edge.kill("directory")
    await edge.raw(Collections.ADDRESSES).insert_one(address("late"))
    edge.edge.cache._token = {"_data": "8200000001000000012B0229296E04"}
    await edge.start(["directory"])
    await eventually_async(lambda: verdict(edge, "late") is Verdict.ACCEPT)


async def test_a_collection_that_is_dropped_leads_to_a_full_read(edge):
    await edge.seed(recipient_mode="known_only")
    await edge.raw(Collections.ADDRESSES).insert_one(address("ann"))
    await edge.start(["directory"])
    await edge.raw(Collections.ADDRESSES).drop()
    await eventually_async(lambda: verdict(edge, "ann") is Verdict.UNKNOWN_USER)


async def test_a_broken_document_spoils_nothing_else(edge):
    await edge.seed()
    await edge.start(["directory"])
    await edge.raw(Collections.DOMAINS).insert_one({"_id": "dom_broken", "customer_id": CUSTOMER})
    await edge.raw(Collections.DOMAINS).insert_one(
        {"_id": "dom_next", "customer_id": CUSTOMER, "name": "next.test", "state": "verified", "site_id": None}
    )
    await eventually_async(lambda: verdict(edge, "ann", "next.test") is Verdict.ACCEPT)


async def test_what_was_read_never_holds_up_sessions_by_the_garbage_collector(edge):
    await edge.seed()
    before = gc.get_freeze_count()
    await edge.start(["directory"])
    assert verdict(edge, "ann") is Verdict.ACCEPT
    assert gc.get_freeze_count() > before
