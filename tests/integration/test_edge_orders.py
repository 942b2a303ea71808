"""Operators' decisions on messages that wait, carried out by the edge: returned, or dropped (SPEC R5)."""

from datetime import UTC, datetime

import pytest

from postern_common.documents import Collections
from tests.servers.edge_inside import InsideEdge, deferred, edge, message, settled  # noqa: F401
from tests.servers.smtp_fake import FakeHop
from tests.servers.waiting import eventually_async


@pytest.fixture
async def hop():
    fake = await FakeHop().start()
    fake.replies["RCPT"] = "451 4.2.1 later"
    yield fake
    await fake.stop()


async def order(edge, action):
    """As the API writes it."""
    now = datetime.now(UTC)
    values = {"state": "queued", "due_at": now, "order": {"action": action, "by": "adm_1", "at": now}}
    await edge.raw(Collections.MESSAGES).update_one({"direction": "inbound"}, {"$set": values, "$inc": {"version": 1}})


@pytest.mark.spec("R5")
@pytest.mark.parametrize(("action", "told"), [("bounce", 1), ("drop", 0)])
@pytest.mark.parametrize("is_held", [False, True])
async def test_what_waits_is_returned_or_dropped_without_another_attempt(edge, hop, action, told, is_held):
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await deferred(edge)
    if is_held:
        await edge.raw(Collections.MESSAGES).update_one({}, {"$set": {"state": "held"}, "$inc": {"version": 1}})
    tries = hop.count("RCPT")
    await order(edge, action)
    [done] = await settled(edge, direction="inbound")
    assert (done["recipients"][0]["state"], hop.count("RCPT")) == ("bounced", tries)
    assert "by an administrator" in done["recipients"][0]["reply"]
    assert len(await edge.documents(direction="dsn")) == told
    assert "content" not in done


@pytest.mark.spec("R5")
async def test_what_is_decided_during_an_attempt_is_done_right_after_it(edge, hop):
    hop.delays["RCPT"] = 0.5
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("MAIL") == 1)
    await order(edge, "drop")
    [done] = await settled(edge, direction="inbound")
    assert (done["recipients"][0]["state"], hop.count("RCPT")) == ("bounced", 1)
    assert await edge.documents(direction="dsn") == []


@pytest.mark.spec("R5")
async def test_what_was_delivered_meanwhile_is_not_returned(edge, hop):
    hop.replies.clear()
    hop.delays["RCPT"] = 0.5
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: hop.count("MAIL") == 1)
    await order(edge, "bounce")
    [done] = await settled(edge)
    assert (done["recipients"][0]["state"], len(hop.messages)) == ("delivered", 1)
