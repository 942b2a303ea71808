"""A hundred thousand messages, well-formed and not, through the edge: header handling, next hops with and without
8BITMIME and SMTPUTF8, notifications (SPEC F5, R5).

Nothing breaks, whatever a header holds; what goes out is what came in, octet for octet, behind our one trace line, or
the next hop is not told of the message at all. The edge adds no Return-Path: that is the last server's to do (RFC 5321
4.4), and a message's own stays.
"""

import email
import email.message
import email.policy
import logging
import time
import unicodedata
from random import Random
from typing import cast

import pytest
import structlog

from postern_edge.inbound import data
from postern_edge.rules.dsn import Action
from postern_edge.rules.trace_headers import MAX_HOPS, MAX_SUBJECT
from tests.servers.edge_passage import ALL, passage, stuffed, unstuffed
from tests.servers.mime_grammar import message, with_line_ends
from tests.servers.shared_data import shared_data

pytestmark = [pytest.mark.spec("F5"), pytest.mark.spec("R5")]

PART = 20_000
PARTS = 5
EXTENSIONS = sorted(ALL)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Nothing is logged, and a body of 1,500 octets that comes in pieces goes to the store while it is read."""
    monkeypatch.setattr(data, "SPILL", 1500)
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def hops_of(octets):
    section = (b"\r\n" + octets).partition(b"\r\n\r\n")[0].lower()
    return section.count(b"\r\nreceived:")


async def pass_one(seed, octets):
    """Send one message through; True if it was taken."""
    random = Random(seed)
    offers = frozenset(random.sample(EXTENSIONS, random.randrange(len(EXTENSIONS) + 1)))
    utf8 = random.random() < 0.3
    sender = "bjørn@far.test" if utf8 and random.random() < 0.3 else "a@far.test"
    parameters = (
        (" SMTPUTF8" if utf8 else "") + random.choice(["", " BODY=8BITMIME"]) + random.choice(["", " RET=FULL"])
    )
    action = random.choice(list(Action))
    sent = stuffed(octets)
    streamed = random.random() < 0.3 and 0 <= sent.find(b"\r\n\r\n") < 1400  # the header goes with the first piece
    pieces = [sent[at : at + 700] for at in range(0, len(sent), 700)] if streamed else [sent]
    came = await passage(pieces, sender=sender, parameters=parameters, offers=offers, action=action)
    if hops_of(octets) > MAX_HOPS:
        assert came.reply.startswith(b"554 5.4.6"), came.reply
        return False
    assert came.reply.startswith(b"250 2.0.0 OK: queued"), came.reply
    assert came.stored is not None
    trace = came.stored.octets[: -len(octets)]
    assert came.stored.octets == trace + octets
    assert trace.startswith(b"Received: ")
    assert trace.replace(b"\r\n\t", b"").count(b"\r\n") == 1
    subject = came.stored.message.subject
    assert not {unicodedata.category(char) for char in subject} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(subject) <= MAX_SUBJECT
    assert came.stored.message.message_id.isascii()
    went(came, trace + octets, offers, utf8, sender)
    told(came, trace + octets, "RET=FULL" in parameters and action is Action.FAILED)
    return True


def went(came, octets, offers, utf8, sender):
    """What the next hop got, or why it was told nothing."""
    eight_bit = not octets.isascii()
    header_is_ascii = (octets.partition(b"\r\n\r\n")[0]).isascii()
    needs_utf8 = not sender.isascii() or (utf8 and not header_is_ascii)
    (given,) = came.exchange.answers
    if needs_utf8 and "smtputf8" not in offers:
        assert (given.code, given.text[:5], given.permanent) == (0, "5.6.7", True)
    elif eight_bit and "8bitmime" not in offers:
        assert (given.code, given.text[:5], given.permanent) == (0, "5.6.3", True)
    else:
        assert str(given) == "250 2.0.0 taken"
        assert unstuffed(came.sent) == octets
        assert came.commands[0].startswith(f"MAIL FROM:<{sender}>".encode())
        assert (b" SMTPUTF8" in came.commands[0]) is needs_utf8
        assert (b" BODY=8BITMIME" in came.commands[0]) is eight_bit
        return
    assert came.sent == b""
    assert came.commands == []


def told(came, octets, whole):
    """The notification holds the message's headers, or all of it, octet for octet, and is mail itself."""
    notice = came.notice
    assert notice.count(b"\r") == notice.count(b"\n") == notice.count(b"\r\n")
    head, _, content = notice.partition(b"\r\n\r\n")
    boundary = b"\r\n--" + head.partition(b'boundary="')[2].partition(b'"')[0]
    _, text, status, original, end = (b"\r\n" + content).split(boundary)
    assert end == b"--\r\n"
    assert text.isascii()
    assert status.isascii()
    returned = original.partition(b"\r\n\r\n")[2]
    section = octets if b"\r\n\r\n" not in octets else octets[: octets.index(b"\r\n\r\n") + 2]
    assert returned == (octets if whole else section[: 64 * 1024])
    assert (b"8bit" in head) is (not notice.isascii())


async def pass_all(first, count, seeds):
    """How many of these messages were taken."""
    taken = 0
    for seed in range(first, first + count):
        octets = message(seed, seeds)
        try:
            taken += await pass_one(seed, octets)
        except Exception as error:
            raise AssertionError(f"message {seed}: {error!r}\n{octets[:4000]!r}") from error
    return taken


def malformed():
    folder = shared_data("mime-malformed")
    return [path.read_bytes() for path in sorted(folder.glob("*.eml"))] if folder else []


async def test_a_thousand_messages_pass_unchanged():
    assert await pass_all(0, 1000, malformed()) > 900


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
async def test_a_hundred_thousand_messages_pass_unchanged(part):
    started = time.monotonic()
    taken = await pass_all(1_000_000 + part * PART, PART, malformed())
    assert taken > PART * 0.85
    print(f"{PART} messages, {taken} taken; {PART / (time.monotonic() - started):.0f} messages/s")


async def test_malformed_messages_of_others_pass_unchanged():
    messages = malformed()
    if not messages:
        pytest.skip("the folder mime-malformed is not here (POSTERN_TEST_DATA)")
    for seed, octets in enumerate(messages):
        assert await pass_one(seed, with_line_ends(octets))


@pytest.mark.parametrize("seed", range(20))
async def test_a_notification_can_be_read_by_others(seed):
    octets = message(seed)
    came = await passage([stuffed(octets)], parameters=" RET=FULL")
    if not came.notice:
        return
    report = email.message_from_bytes(came.notice, policy=email.policy.compat32)
    assert report.get_content_type() == "multipart/report"
    kinds = [part.get_content_type() for part in cast(list[email.message.Message], report.get_payload())]
    assert kinds == ["text/plain", "message/delivery-status", "message/rfc822"]
