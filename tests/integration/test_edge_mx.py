"""Notifications to senders elsewhere go by MX, with its fall-back and its refusals (RFC 5321 5.1, RFC 7505)."""

import secrets

import pytest

from tests.servers.edge_inside import InsideEdge, message
from tests.servers.smtp_fake import FakeHop
from tests.servers.waiting import eventually_async


@pytest.fixture
async def hop():
    fake = await FakeHop(replies={"RCPT": "550 5.1.1 no such user"}).start()
    yield fake
    await fake.stop()


@pytest.fixture
async def exchanger():
    fake = await FakeHop().start()
    yield fake
    await fake.stop()


@pytest.fixture
async def edge(mongo_uri, database, vhost, named, hop, exchanger):
    servers = f"{named.host}:{named.port}"
    inside = InsideEdge(mongo_uri, database, vhost, dns_servers=servers, edge_mx_port=exchanger.port)
    await inside.seed(hop)
    await inside.start()
    yield inside
    await inside.close()


@pytest.fixture
def domain():
    return f"{secrets.token_hex(4)}.scratch.test"


async def notice_state(edge, state):
    async def look():
        found = await edge.documents(direction="dsn")
        return found and found[0]["recipients"][0]["state"] == state and found[0]

    return await eventually_async(look)


@pytest.mark.spec("R5")
async def test_the_best_exchanger_gets_the_notification(edge, named, domain, exchanger):
    named.update(f"mx1.{domain}", "A", ["127.0.0.1"])
    named.update(f"mx2.{domain}", "A", ["127.0.0.9"])
    named.update(domain, "MX", [f"10 mx1.{domain}.", f"20 mx2.{domain}."])
    await edge.edge.spool.accept(message(sender=f"bob@{domain}"))
    notice = await notice_state(edge, "delivered")
    assert notice["recipients"][0]["next_hop"] == f"mx1.{domain}:{exchanger.port}"
    assert exchanger.messages[0].sender == ""
    assert exchanger.messages[0].recipients == [f"bob@{domain}"]


@pytest.mark.spec("R5")
async def test_without_mx_the_domain_itself_is_the_exchanger(edge, named, domain, exchanger):
    named.update(domain, "A", ["127.0.0.1"])
    await edge.edge.spool.accept(message(sender=f"bob@{domain}"))
    await notice_state(edge, "delivered")
    assert len(exchanger.messages) == 1


@pytest.mark.spec("R5")
async def test_a_domain_with_a_null_mx_or_none_at_all_gets_nothing_and_the_notification_is_parked(edge, named, domain):
    named.update(domain, "MX", ["0 ."])
    await edge.edge.spool.accept(message(sender=f"bob@{domain}"))
    notice = await notice_state(edge, "bounced")
    assert notice["recipients"][0]["reply"].startswith("5.1.10")
    await edge.edge.spool.accept(message(sender=f"bob@no-such-{domain}"))

    async def both_parked():
        return len(await edge.documents(direction="dsn", state="done")) == 2

    await eventually_async(both_parked)
    assert len(await edge.documents()) == 4


@pytest.mark.spec("R12")
async def test_an_exchanger_inside_is_not_reached(mongo_uri, database, vhost, named, domain, exchanger, hop):
    named.update(domain, "A", ["10.1.2.3"])
    servers = f"{named.host}:{named.port}"
    edge = InsideEdge(mongo_uri, database, vhost, dns_servers=servers, edge_mx_port=exchanger.port)
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message(sender=f"bob@{domain}"))
    notice = await notice_state(edge, "deferred")
    assert notice["recipients"][0]["reply"] == "the mail server's address is not allowed"
    await edge.close()


async def test_a_resolver_that_does_not_answer_defers(mongo_uri, database, vhost, hop, monkeypatch):
    monkeypatch.setattr("postern_edge.adapters.resolver.LIFETIME_SECONDS", 0.6)
    edge = InsideEdge(mongo_uri, database, vhost, dns_servers="127.0.0.1:9")
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message(sender="bob@elsewhere.scratch.test"))
    notice = await notice_state(edge, "deferred")
    assert "cannot be looked up" in notice["recipients"][0]["reply"]
    await edge.close()
