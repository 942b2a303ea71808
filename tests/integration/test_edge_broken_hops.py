"""Next hops that break off, lie or talk nonsense: mail waits and is delivered later, never lost, never bounced."""

import ssl

import pytest

from tests.servers.edge_inside import DOMAIN, InsideEdge, deferred, message, settled, states
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401


@pytest.fixture
async def edge(mongo_uri, database, vhost, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    inside = InsideEdge(mongo_uri, database, vhost, test_clock=clock)
    yield inside
    await inside.close()


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "END"])
async def test_a_connection_that_breaks_defers_and_the_next_attempt_delivers(edge, hop, stage):
    hop.disconnect_at = {stage}
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await deferred(edge)
    hop.disconnect_at = set()
    edge.move_clock(120)
    await settled(edge)
    assert len(hop.messages) == 1


async def test_a_hostile_reply_is_bounded_and_cleaned_before_it_is_stored(edge, hop):
    hop.replies["MAIL"] = "451 4.0.0 \x1b[31m\x00" + "x" * 3000
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    found = await deferred(edge)
    reply = found["recipients"][0]["reply"]
    assert len(reply) < 600
    assert reply.isprintable()


@pytest.mark.spec("R11")
async def test_case_48_what_follows_a_220_in_clear_is_not_taken_for_its_encrypted_words(edge, hop):
    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("hop.test").configure_cert(context)
    hop.tls = context
    hop.replies["STARTTLS"] = "220 go on\r\n250-fake.test\r\n250 SIZE 1"
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    [done] = await settled(edge)
    assert states(done) == {f"ann@{DOMAIN}": "delivered"}
    assert hop.messages[0].secure


@pytest.mark.parametrize("reply", ["451-" + "x" * 60_000, "nonsense", "999 what", "2 5 0", "\x00\x01"])
async def test_a_reply_that_is_none_defers(edge, hop, reply):
    hop.replies["RCPT"] = reply
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    found = await deferred(edge)
    assert len(found["recipients"][0]["reply"]) < 600
