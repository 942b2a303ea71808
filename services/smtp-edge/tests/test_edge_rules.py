"""The other pure rules of the inbound port: recipients, trace headers, queue ids, admission, replies."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_common.documents import DomainState, RecipientMode
from postern_edge import replies
from postern_edge.inbound.connect import ConnectionLimits, admit, counted_as
from postern_edge.rules.paths import Mailbox
from postern_edge.rules.queue_ids import new_queue_id
from postern_edge.rules.recipients import DomainFacts, Verdict, decide
from postern_edge.rules.trace_headers import Hop, header_section, received_line, scan_headers

NOW = datetime(2026, 11, 25, 12, 0, 0, 999, tzinfo=UTC)
OPEN = DomainFacts(DomainState.VERIFIED, "cus_1", max_message_bytes=5000)
STRICT = DomainFacts(DomainState.VERIFIED, "cus_1", RecipientMode.KNOWN_ONLY)
STALE = DomainFacts(DomainState.VERIFIED, "cus_1", RecipientMode.KNOWN_ONLY, users_current=False)
USERS = {"ann@example.test": "usr_ann", "bob+x@example.test": "usr_bobx"}


def verdict(local, domain, *, readable=True):
    return decide(Mailbox(local, "example.test"), domain, USERS.get, readable=readable)


@pytest.mark.spec("D7")
def test_unknown_and_expired_domains_are_refused_and_pending_ones_put_off():
    assert verdict("ann", None).verdict is Verdict.UNKNOWN_DOMAIN
    assert verdict("ann", DomainFacts(DomainState.EXPIRED)).verdict is Verdict.UNKNOWN_DOMAIN
    assert verdict("ann", DomainFacts(DomainState.PENDING)).verdict is Verdict.PENDING_DOMAIN
    assert verdict("postmaster", DomainFacts(DomainState.PENDING)).verdict is Verdict.PENDING_DOMAIN


@pytest.mark.spec("R4")
def test_accept_all_takes_anybody_and_names_the_user_it_knows():
    assert verdict("nobody", OPEN).user_id is None
    answer = verdict("Ann", OPEN)
    assert (answer.verdict, answer.customer_id, answer.user_id) == (Verdict.ACCEPT, "cus_1", "usr_ann")


@pytest.mark.spec("R13")
def test_the_customers_own_limit_comes_with_the_answer():
    assert verdict("ann", OPEN).max_message_bytes == 5000


@pytest.mark.spec("R4")
def test_known_only_refuses_strangers_but_never_by_stale_knowledge():
    assert verdict("ann", STRICT).verdict is Verdict.ACCEPT
    assert verdict("nobody", STRICT).verdict is Verdict.UNKNOWN_USER
    assert verdict("nobody", STALE).verdict is Verdict.CANNOT_TELL
    assert verdict("ann", STALE).verdict is Verdict.ACCEPT


@pytest.mark.spec("R4")
def test_nothing_is_refused_for_good_while_the_truth_cannot_be_read():
    for domain in (None, OPEN, STRICT):
        assert verdict("nobody", domain, readable=False).verdict is Verdict.CANNOT_TELL


@pytest.mark.spec("R4")
@pytest.mark.parametrize("local", ["postmaster", "ABUSE", "Postmaster"])
def test_postmaster_and_abuse_are_always_taken(local):
    assert verdict(local, STRICT).verdict is Verdict.ACCEPT


@pytest.mark.spec("U4")
def test_plus_tag_resolves_to_its_user_after_the_exact_address():
    assert verdict("ann+news", STRICT).user_id == "usr_ann"
    assert verdict("bob+x", STRICT).user_id == "usr_bobx"
    assert verdict("bob+y", STRICT).verdict is Verdict.UNKNOWN_USER
    off = DomainFacts(DomainState.VERIFIED, "cus_1", RecipientMode.KNOWN_ONLY, plus_addressing=False)
    assert verdict("ann+news", off).verdict is Verdict.UNKNOWN_USER


def hop(**changes):
    given = {"helo": "client.test", "peer_ip": "192.0.2.1", "hostname": "mx.postern.test", "queue_id": "Q1"}
    return Hop(**{**given, "extended": True, "smtputf8": False, "tls": None, **changes})


def test_received_line():
    assert received_line(hop(), ["ann@example.test"], NOW) == (
        b"Received: from client.test ([192.0.2.1])\r\n\tby mx.postern.test with ESMTP id Q1\r\n"
        b"\tfor <ann@example.test>;\r\n\tWed, 25 Nov 2026 12:00:00 +0000\r\n"
    )


def test_received_line_names_nobody_where_there_are_several():
    assert b"for <" not in received_line(hop(), ["ann@example.test", "bob@example.test"], NOW)


@pytest.mark.parametrize(
    ("changes", "protocol"),
    [
        ({"extended": False}, b" with SMTP id "),
        ({"tls": ("TLSv1.3", "AES")}, b" with ESMTPS id "),
        ({"smtputf8": True}, b" with UTF8SMTP id "),
        ({"smtputf8": True, "tls": ("TLSv1.3", "AES")}, b" with UTF8SMTPS id "),
    ],
)
def test_received_line_tells_the_protocol(changes, protocol):
    assert protocol in received_line(hop(**changes), [], NOW)


def test_received_line_of_an_ipv6_client_over_tls():
    line = received_line(hop(peer_ip="2001:db8::1", tls=("TLSv1.3", "TLS_AES_128_GCM_SHA256")), [], NOW)
    assert b"([IPv6:2001:db8::1])\r\n\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)\r\n" in line
    assert max(map(len, line.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        (b"Subject: hello\r\n", "hello"),
        (b"X: y\r\nsubject:\r\n hello\r\n world\r\nTo: x\r\n", "hello world"),
        (b"Subject: =?utf-8?q?bj=C3=B8rn?= =?iso-8859-1?q?_=E9?=\r\n", "bjørn é"),
        ("Subject: bjørn\r\n".encode(), "bjørn"),
        (b"Subject: bj\xf8rn\r\n", "bjørn"),
        (b"Subject: =?nonsense?q?x?= =?utf-8?b?%%?=\r\n", None),
        (b"Subject: a\x00\x1b[31mb\r\n", "a [31mb"),
        (b"X-Subject: no\r\n", ""),
        (b"Subject:\r\n", ""),
        (b"Subject: " + b"x" * 5000, "x" * 256),
    ],
)
def test_subject_for_the_trace(raw, subject):
    found = scan_headers(raw).subject
    assert subject is None or found == subject


def test_message_id_and_hops():
    facts = scan_headers(b"Received: a\r\nX: Received: b\r\nRECEIVED: c\r\nMessage-ID:\r\n <a.b@c> (x)\r\n")
    assert (facts.message_id, facts.hops) == ("<a.b@c>", 2)


@given(st.binary(max_size=300))
def test_any_header_section_can_be_scanned(raw):
    facts = scan_headers(b"Subject: " + raw)
    assert facts.subject.isprintable() or facts.subject == "" or " " in facts.subject or not facts.subject.isascii()
    facts.subject.encode()


def test_header_section():
    assert header_section(b"A: b\r\n\r\nbody") == b"A: b\r\n"
    assert header_section(b"\r\nbody") == b""
    assert header_section(b"A: b\r\n") is None


def test_queue_ids_sort_by_time_and_differ():
    first, second = new_queue_id(NOW), new_queue_id(NOW + timedelta(milliseconds=1))
    assert first < second
    assert new_queue_id(NOW) != first
    assert len(first) == 20


@pytest.mark.spec("F5")
def test_connections_are_limited_in_all_and_by_address():
    limits = ConnectionLimits(total=3, per_address=2)
    assert admit(limits, 2, 1, draining=False) is None
    assert admit(limits, 3, 0, draining=False) is replies.TOO_MANY_CONNECTIONS
    assert admit(limits, 2, 2, draining=False) is replies.TOO_MANY_FROM_ADDRESS
    assert admit(limits, 3, 2, draining=False) is replies.TOO_MANY_FROM_ADDRESS  # nobody makes way for that address
    assert admit(limits, 0, 0, draining=True) is replies.GOING_DOWN


def test_an_ipv6_subscriber_counts_as_one():
    assert counted_as("2001:db8:1:2::1") == counted_as("2001:db8:1:2:ffff::2") != counted_as("2001:db8:1:3::1")
    assert counted_as("::ffff:192.0.2.1") == counted_as("192.0.2.1")
    assert counted_as("fe80::1%eth0") == counted_as("fe80::2")


def test_replies_agree_with_themselves():
    for name, reply in replies.CATALOGUE.items():
        assert reply.id == name
        assert reply.wire.isascii()
        assert reply.wire.endswith(b"\r\n")
        assert len(reply.wire) <= 512, "RFC 5321 4.5.3.1.5"
        assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0], "RFC 3463 2"
        assert name.startswith(f"E{str(reply.code)[0]}")


def test_no_reply_tells_the_softwares_version():
    assert replies.banner("mx.postern.test") == b"220 mx.postern.test ESMTP\r\n"
