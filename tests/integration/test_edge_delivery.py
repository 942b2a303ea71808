"""From the spool to the next hop: routes, results for each recipient, servers in turn, what a hop cannot carry (CASES
3.6)."""

import asyncio

import pytest

from postern_common.documents import Collections
from postern_edge.interfaces import AcceptedRecipient
from postern_edge.rules.paths import Mailbox
from postern_edge.rules.recipients import Verdict
from tests.servers.edge_inside import CUSTOMER, DOMAIN, InsideEdge, deferred, message, server, settled, states
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401
from tests.servers.waiting import eventually_async

USER = "usr_0192f0c1a8b47c3e9d215b7f10aa3c57"


@pytest.fixture
async def other():
    fake = await FakeHop().start()
    yield fake
    await fake.stop()


@pytest.fixture
async def edge(mongo_uri, database, vhost, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    inside = InsideEdge(mongo_uri, database, vhost, test_clock=clock)
    yield inside
    await inside.close()


@pytest.mark.spec("R4")
async def test_an_accepted_message_reaches_the_site_unchanged_and_its_body_is_removed(edge, hop):
    await edge.seed(hop)
    await edge.start()
    body = b"Subject: dots\r\n\r\n.one\r\n..two\r\nlong " + b"x" * 1200 + b"\r\n.\rno\r\n"[:2] + b"end\r\n"
    await edge.edge.spool.accept(message(body=body))
    [done] = await settled(edge)
    assert hop.messages[0].data == body
    assert hop.messages[0].sender == "bob@sender.test"
    assert states(done) == {f"ann@{DOMAIN}": "delivered"}
    assert done["recipients"][0]["reply"].startswith("250")
    assert [step["what"] for step in done["steps"]] == ["received", "delivered"]

    async def body_is_gone():
        kept = await edge.raw(Collections.MESSAGES).count_documents({"content": {"$exists": True}})
        return kept + await edge.raw(Collections.BODIES).count_documents({}) == 0

    await eventually_async(body_is_gone)


@pytest.mark.spec("S13", "X1", "R4", "S14a")
@pytest.mark.parametrize("state", ["flagged", "ignored", "deactivated"])
async def test_1h_1_mail_for_a_user_who_is_to_go_or_has_no_access_flows(edge, hop, state):
    await edge.seed(hop, recipient_mode="known_only")
    user = {"_id": USER, "customer_id": CUSTOMER, "email_key": f"ann@{DOMAIN}", "site_id": None, "state": "active"}
    await edge.raw(Collections.USERS).insert_one(user)
    address = {"customer_id": CUSTOMER, "key": f"ann@{DOMAIN}", "domain": DOMAIN, "user_id": USER, "verified": True}
    await edge.raw(Collections.ADDRESSES).insert_one({**address, "is_primary": True})
    await edge.start()
    await edge.raw(Collections.USERS).update_one({"_id": USER}, {"$set": {"state": state, "flag_reason": "absent"}})
    # A change that the edge is seen to take came after the user's.
    await edge.raw(Collections.ADDRESSES).insert_one({**address, "key": f"late@{DOMAIN}", "is_primary": False})
    lookup = edge.edge.directory.lookup
    await eventually_async(lambda: lookup(Mailbox("late", DOMAIN)).verdict is Verdict.ACCEPT)
    answer = lookup(Mailbox("Ann", DOMAIN))
    assert (answer.verdict, answer.user_id) == (Verdict.ACCEPT, USER)
    recipient = f"Ann@{DOMAIN}"
    await edge.edge.spool.accept(message([AcceptedRecipient(recipient, recipient, CUSTOMER, answer.user_id)]))
    [done] = await settled(edge)
    assert states(done) == {recipient: "delivered"}
    assert hop.messages[0].recipients == [recipient]


@pytest.mark.spec("R3")
async def test_each_recipient_has_its_own_result_within_one_transaction(edge, hop):
    hop.recipients = {f"hard@{DOMAIN}": "550 5.1.1 no such user", f"soft@{DOMAIN}": "451 4.2.1 try later"}
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message([f"ok@{DOMAIN}", f"hard@{DOMAIN}", f"soft@{DOMAIN}"]))
    [found] = await settled(edge, "queued", direction="inbound")
    assert states(found) == {f"ok@{DOMAIN}": "delivered", f"hard@{DOMAIN}": "bounced", f"soft@{DOMAIN}": "deferred"}
    assert len(hop.messages) == 1
    assert hop.messages[0].recipients == [f"ok@{DOMAIN}"]
    assert found["due_at"] is not None


@pytest.mark.spec("R3")
async def test_servers_are_tried_by_priority_and_a_temporary_failure_goes_to_the_next(edge, hop, other):
    hop.replies["MAIL"] = "451 4.3.0 busy"
    await edge.seed(server(hop, 5), server(other, 20))
    await edge.start()
    await edge.edge.spool.accept(message())
    await settled(edge)
    assert len(other.messages) == 1
    assert hop.connections == 1


@pytest.mark.spec("R3")
async def test_a_clear_refusal_is_not_taken_to_the_next_server(edge, hop, other):
    hop.replies["RCPT"] = "550 5.1.1 no"
    await edge.seed(server(hop, 5), server(other, 20))
    await edge.start()
    await edge.edge.spool.accept(message(sender=""))
    [done] = await settled(edge)
    assert states(done) == {f"ann@{DOMAIN}": "bounced"}
    assert other.connections == 0


@pytest.mark.spec("R3")
async def test_a_dead_server_is_left_out_for_a_while(edge, hop):
    dead = await FakeHop().start()
    await dead.stop()
    await edge.seed(server(dead, 5), server(hop, 20))
    await edge.start()
    for _ in range(6):
        await edge.edge.spool.accept(message())
        await asyncio.sleep(0.05)
    await settled(edge)
    assert len(hop.messages) == 6
    breaker = next(hop_.breaker for known, hop_ in edge.edge.delivery._servers._hops.items() if known[1] == dead.port)
    assert breaker.open_until is not None
    assert breaker.failures == 3


@pytest.mark.spec("R1")
async def test_a_users_site_beats_the_domains_which_beats_the_default(edge, hop, other):
    third = await FakeHop().start()
    await edge.seed(hop)
    await edge.add_site("sit_domain", [server(other)])
    await edge.add_site("sit_user", [server(third)])
    await edge.raw(Collections.DOMAINS).update_one({}, {"$set": {"site_id": "sit_domain"}})
    user = "usr_0192f0c1a8b47c3e9d215b7f10aa3c57"
    await edge.raw(Collections.USERS).insert_one({"_id": user, "customer_id": CUSTOMER, "site_id": "sit_user"})
    await edge.start()
    await edge.edge.spool.accept(
        message([f"ann@{DOMAIN}", AcceptedRecipient(f"eve@{DOMAIN}", f"eve@{DOMAIN}", CUSTOMER, user)])
    )
    await settled(edge)
    assert other.taken_recipients == [f"ann@{DOMAIN}"]
    assert third.taken_recipients == [f"eve@{DOMAIN}"]
    assert hop.connections == 0
    await third.stop()


@pytest.mark.spec("R1")
async def test_without_a_site_mail_waits_and_the_trace_says_why(edge, hop):
    await edge.seed()
    await edge.start()
    await edge.edge.spool.accept(message())
    found = await deferred(edge)
    assert "no mail server is configured" in found["steps"][-1]["detail"]
    await edge.add_site("sit_late", [server(hop)], default=True)
    edge.move_clock(120)
    await settled(edge)
    assert len(hop.messages) == 1


@pytest.mark.spec("R12")
async def test_a_next_hop_inside_is_refused_at_connect_time(mongo_uri, database, vhost, hop):
    edge = InsideEdge(mongo_uri, database, vhost, allow_networks="")
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    found = await deferred(edge)
    assert found["recipients"][0]["reply"] == "the mail server's address is not allowed"
    assert hop.connections == 0
    await edge.close()


@pytest.mark.spec("R5")
async def test_case_59_a_refused_notification_is_parked_and_causes_no_other(edge, hop):
    hop.recipients[f"gone@{DOMAIN}"] = "550 5.1.1 no such user"
    await edge.seed(hop)
    smarthost = await FakeHop(replies={"MAIL": "501 5.1.7 bad sender"}).start()
    await edge.seed(smarthost, customer="cus_other", domain="sender.test")
    await edge.start()
    await edge.edge.spool.accept(message([f"gone@{DOMAIN}"]))
    found = await settled(edge)
    [notice] = [one for one in found if one["direction"] == "dsn"]
    assert notice["sender"] == ""
    assert states(notice) == {"bob@sender.test": "bounced"}
    await asyncio.sleep(0.5)
    assert len(await edge.documents()) == 2
    assert smarthost.count("MAIL FROM:<>") == 1
    await smarthost.stop()


@pytest.mark.spec("R11")
async def test_case_60_where_tls_may_be_used_a_stalled_handshake_goes_clear_and_is_remembered(edge, hop):
    hop.stall_after_starttls = True
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message())
    await settled(edge)
    assert not hop.messages[0].secure
    assert hop.count("STARTTLS") == 1
    await edge.edge.delivery._servers.close()
    await edge.edge.spool.accept(message())
    await settled(edge)
    assert len(hop.messages) == 2
    assert hop.count("STARTTLS") == 1


@pytest.mark.spec("R11")
@pytest.mark.parametrize("offered", [True, False])
async def test_case_60_where_tls_is_required_the_message_waits_and_never_goes_clear(edge, hop, offered):
    hop.stall_after_starttls = offered
    await edge.seed(server(hop, tls="required"))
    await edge.start()
    await edge.edge.spool.accept(message())
    found = await deferred(edge)
    assert found["recipients"][0]["state"] == "deferred"
    assert hop.count("MAIL") == 0


@pytest.mark.parametrize("kind", ["idle 421", "closed", "503 to MAIL"])
async def test_case_61_a_stale_connection_is_replaced_and_never_bounces(edge, hop, kind):
    await edge.seed(hop)
    await edge.start()
    if kind == "idle 421":
        hop.idle_421_seconds = 0.3
    if kind == "503 to MAIL":
        hop.rset_needed_reply = "503 5.5.1 nested MAIL"
    await edge.edge.spool.accept(message())
    await settled(edge)
    if kind == "closed":
        port = hop.port
        await hop.stop()
        await hop.start(port)
    await asyncio.sleep(0.5 if kind == "idle 421" else 0)
    await edge.edge.spool.accept(message())
    found = await settled(edge)
    assert [states(one) for one in found] == [{f"ann@{DOMAIN}": "delivered"}] * 2
    assert all(one["recipients"][0]["attempts"] == 1 for one in found)
    assert len(hop.messages) == 2


async def test_case_61_a_refused_rset_costs_the_connection_not_the_message(edge, hop):
    hop.recipients[f"gone@{DOMAIN}"] = "550 5.1.1 no"
    hop.replies["RSET"] = "503 5.5.1 no"
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message([f"gone@{DOMAIN}"], sender=""))
    await settled(edge)
    await edge.edge.spool.accept(message())
    await settled(edge)
    assert len(hop.messages) == 1
    assert hop.connections == 2


async def test_connections_are_used_again(edge, hop):
    await edge.seed(hop)
    await edge.start()
    for _ in range(5):
        await edge.edge.spool.accept(message())
        await settled(edge)
    assert len(hop.messages) == 5
    assert hop.connections == 1


async def test_case_62_smtputf8_is_asked_for_only_where_it_is_needed(edge, hop):
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message(smtputf8=True))
    await settled(edge)
    assert "SMTPUTF8" not in hop.messages[0].mail_line
    await edge.edge.spool.accept(message([f"bjørn@{DOMAIN}"], smtputf8=True))
    await settled(edge)
    assert "SMTPUTF8" in hop.messages[1].mail_line
    assert hop.messages[1].recipients == [f"bjørn@{DOMAIN}"]


async def test_case_62_an_international_address_bounces_where_the_hop_cannot_take_it(edge, hop):
    hop.extensions = ("SIZE 1000000", "8BITMIME")
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message([f"bjørn@{DOMAIN}", f"ann@{DOMAIN}"], sender="", smtputf8=True))
    [done] = await settled(edge)
    assert states(done) == {f"bjørn@{DOMAIN}": "bounced", f"ann@{DOMAIN}": "delivered"}
    assert done["recipients"][0]["reply"].startswith("5.6.7")
    await edge.edge.spool.accept(message())
    await eventually_async(lambda: len(hop.messages) == 2)


async def test_case_63_eight_bit_content_bounces_where_the_hop_cannot_take_it(edge, hop):
    hop.extensions = ("SIZE 1000000",)
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message(sender="", body="Subject: x\r\n\r\nbjørn\r\n".encode()))
    [done] = await settled(edge)
    assert done["recipients"][0]["reply"].startswith("5.6.3")
    assert hop.messages == []


async def test_case_63_eight_bit_content_goes_as_it_is_where_the_hop_takes_it(edge, hop):
    body = "Subject: x\r\n\r\nbjørn\r\n".encode()
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message(body=body, body_type="8BITMIME"))
    await settled(edge)
    assert "BODY=8BITMIME" in hop.messages[0].mail_line
    assert hop.messages[0].data == body


async def test_case_64_long_lines_pass_unchanged(edge, hop):
    body = b"DKIM-Signature: v=1\r\n\r\n" + b"x" * 1200 + b"\r\n"
    await edge.seed(hop)
    await edge.start()
    await edge.edge.spool.accept(message(body=body))
    await settled(edge)
    assert hop.messages[0].data == body


async def test_a_large_body_is_streamed_through_unchanged(edge, hop):
    piece = b"0123456789abcdef" * 63 + b"\r\n.dot at a line start\r\n"
    body = b"Subject: large\r\n\r\n" + piece * 3000
    await edge.seed(hop)
    await edge.start()
    upload = edge.edge.spool.open_body("Q1")
    for start in range(0, len(body), 100_001):
        await upload.write(body[start : start + 100_001])
    stored = await upload.close()
    await edge.edge.spool.accept(message(body=b"", stored_body=stored, size=stored.size))
    await settled(edge)
    assert stored.size == len(body)
    assert hop.messages[0].data == body

    async def nothing_is_left():
        files = await edge.mongo.db["large_bodies.chunks"].count_documents({})
        return files == 0 and await edge.raw(Collections.BODIES).count_documents({}) == 0

    await eventually_async(nothing_is_left)


@pytest.mark.spec("V5")
async def test_notification_wishes_are_handed_on_to_a_hop_that_knows_them(edge, hop):
    await edge.seed(hop)
    await edge.start()
    wish = AcceptedRecipient(
        f"ann@{DOMAIN}", f"ann@{DOMAIN}", CUSTOMER, None, ("SUCCESS", "FAILURE"), "rfc822;a@x.test"
    )
    await edge.edge.spool.accept(message([wish], envid="E1", ret="HDRS"))
    await settled(edge)
    assert "RET=HDRS ENVID=E1" in hop.messages[0].mail_line
    assert "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@x.test" in hop.messages[0].rcpt_lines[0]
    assert len(await edge.documents()) == 1
