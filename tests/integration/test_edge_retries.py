"""Five days of retries by the movable clock, and the notifications that follow (SPEC R5, RFC 3461, RFC 3464)."""

import email
import email.policy

import pytest

from postern_common.documents import Collections
from postern_edge.interfaces import AcceptedRecipient
from tests.servers.edge_inside import CUSTOMER, DOMAIN, InsideEdge, message
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.waiting import eventually_async

HOUR = 3600


@pytest.fixture
async def sender_hop():
    fake = await FakeHop().start()
    yield fake
    await fake.stop()


@pytest.fixture
async def edge(mongo_uri, database, vhost, tmp_path, hop, sender_hop):
    clock = tmp_path / "clock"
    clock.write_text("0")
    inside = InsideEdge(mongo_uri, database, vhost, test_clock=clock, edge_dsn_per_sender_per_hour=3)
    await inside.seed(hop)
    await inside.seed(sender_hop, customer="cus_sender", domain="sender.test")
    await inside.start()
    yield inside
    await inside.close()


async def state_of(edge, state, attempts=1):
    async def look():
        found = await edge.one(direction="inbound")
        first = found["recipients"][0]
        return first["state"] == state and first["attempts"] >= attempts and found["lease_owner"] is None and found

    return await eventually_async(look, timeout=15)


async def notice(sender_hop, count=1):
    await eventually_async(lambda: len(sender_hop.messages) == count, timeout=15)
    taken = sender_hop.messages[-1]
    assert taken.sender == ""
    return email.message_from_bytes(taken.data, policy=email.policy.default)


def status_blocks(parsed):
    [status] = [part for part in parsed.walk() if part.get_content_type() == "message/delivery-status"]
    return list(status.get_payload())


@pytest.mark.spec("R5")
async def test_deferred_mail_is_retried_for_five_days_and_then_returned(edge, hop, sender_hop):
    hop.replies["RCPT"] = "451 4.2.1 mailbox busy"
    await edge.edge.spool.accept(message())
    attempts = 1
    found = await state_of(edge, "deferred")
    for days in (1, 2, 3, 4):
        edge.move_clock(24 * HOUR)
        attempts += 1
        found = await state_of(edge, "deferred", attempts)
        assert found["state"] == "queued", f"day {days}"
    edge.move_clock(25 * HOUR)
    done = await state_of(edge, "bounced", attempts + 1)
    assert done["state"] == "done"
    report = status_blocks(await notice(sender_hop))
    assert report[1]["Action"] == "failed"
    assert report[1]["Status"] == "4.4.7"
    assert "451 4.2.1 mailbox busy" in report[1]["Diagnostic-Code"]


@pytest.mark.spec("R5")
async def test_intervals_grow(edge, hop):
    hop.replies["RCPT"] = "451 4.2.1 mailbox busy"
    await edge.edge.spool.accept(message())
    waits = []
    for attempt in range(1, 6):
        found = await state_of(edge, "deferred", attempt)
        wait = (found["due_at"] - edge.edge.queue.time.now()).total_seconds()
        waits.append(wait)
        edge.move_clock(wait + 2)
    assert [round(wait / 60) for wait in waits[:1]] == [1]
    assert waits == sorted(waits)
    assert waits[-1] > 45 * 60


@pytest.mark.spec("R5")
@pytest.mark.spec("V5")
async def test_a_permanent_refusal_is_reported_to_the_sender(edge, hop, sender_hop):
    hop.recipients[f"gone@{DOMAIN}"] = "550 5.1.1 no such user"
    gone = AcceptedRecipient(f"gone@{DOMAIN}", f"gone@{DOMAIN}", CUSTOMER, None, (), "rfc822;g+2Bone@acme.test")
    await edge.edge.spool.accept(
        message([gone, f"ann@{DOMAIN}"], body=b"Subject: Hi\r\nX-Own: 1\r\n\r\nsecret text\r\n", envid="E+2B1")
    )
    parsed = await notice(sender_hop)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["To"] == "bob@sender.test"
    first, second = status_blocks(parsed)
    assert first["Original-Envelope-Id"] == "E+1"
    assert first["Reporting-MTA"] == "dns; mx.postern.test"
    assert second["Original-Recipient"] == "rfc822; g+one@acme.test"
    assert second["Final-Recipient"] == f"rfc822; gone@{DOMAIN}"
    assert (second["Action"], second["Status"]) == ("failed", "5.1.1")
    assert second["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    text = parsed.as_bytes()
    assert b"X-Own: 1" in text
    assert b"secret text" not in text
    bounced = await state_of(edge, "bounced")
    assert [step["what"] for step in bounced["steps"]].count("notification") == 1


@pytest.mark.spec("V5")
async def test_the_whole_message_returns_where_the_sender_asked_for_it(edge, hop, sender_hop):
    hop.replies["RCPT"] = "550 5.1.1 no"
    await edge.edge.spool.accept(message(body=b"Subject: Hi\r\n\r\nthe text\r\n", ret="FULL"))
    parsed = await notice(sender_hop)
    [original] = [part for part in parsed.walk() if part.get_content_type() == "message/rfc822"]
    assert "the text" in original.as_string()


@pytest.mark.spec("R5")
@pytest.mark.parametrize(
    "sender,notify", [("", ()), ("bob@sender.test", ("NEVER",)), ("bob@sender.test", ("SUCCESS",))]
)
async def test_nobody_is_told_who_has_no_return_path_or_did_not_ask(edge, hop, sender_hop, sender, notify):
    hop.replies["RCPT"] = "550 5.1.1 no"
    one = AcceptedRecipient(f"ann@{DOMAIN}", f"ann@{DOMAIN}", CUSTOMER, None, notify)
    await edge.edge.spool.accept(message([one], sender=sender))
    await state_of(edge, "bounced")
    assert len(await edge.documents()) == 1
    assert sender_hop.messages == []


@pytest.mark.spec("R5")
async def test_notifications_to_one_sender_are_limited(edge, hop, sender_hop):
    hop.replies["RCPT"] = "550 5.1.1 no"
    for _ in range(6):
        await edge.edge.spool.accept(message())

    async def all_bounced():
        return len(await edge.documents(direction="inbound", state="done")) == 6

    await eventually_async(all_bounced)
    assert len(await edge.documents(direction="dsn")) == 3
    assert await edge.raw(Collections.DSN_LIMITS).count_documents({}) == 1


@pytest.mark.spec("V5")
async def test_a_delay_is_told_once_and_only_where_it_was_asked_for(edge, hop, sender_hop):
    hop.replies["RCPT"] = "451 4.2.1 busy"
    one = AcceptedRecipient(f"ann@{DOMAIN}", f"ann@{DOMAIN}", CUSTOMER, None, ("DELAY",))
    await edge.edge.spool.accept(message([one]))
    await state_of(edge, "deferred")
    edge.move_clock(5 * HOUR)
    await state_of(edge, "deferred", 2)
    report = status_blocks(await notice(sender_hop))
    assert report[1]["Action"] == "delayed"
    assert report[1]["Will-Retry-Until"]
    edge.move_clock(5 * HOUR)
    await state_of(edge, "deferred", 3)
    assert len(await edge.documents(direction="dsn")) == 1


@pytest.mark.spec("V5")
async def test_success_is_told_where_the_hop_does_not_take_over_the_wish(edge, hop, sender_hop):
    hop.extensions = ("8BITMIME",)
    one = AcceptedRecipient(f"ann@{DOMAIN}", f"ann@{DOMAIN}", CUSTOMER, None, ("SUCCESS",))
    await edge.edge.spool.accept(message([one]))
    report = status_blocks(await notice(sender_hop))
    assert (report[1]["Action"], report[1]["Status"]) == ("relayed", "2.0.0")
