"""A million dialogues with the inbound port, each held against the reference model (SPEC F5).

No crash, hang, split or merge: every octet that is said is a reply of `replies.py` that the dialogue allows at that
place, and the spool holds the messages that got 250, octet for octet, and no other. `make test` plays a few thousand,
`make soak` the million in parts, so that it goes on where it was stopped.
"""

import logging
import time

import pytest
import structlog

from postern_edge import replies
from postern_edge.inbound import data
from postern_edge.reader import DataReader, Fault
from tests.servers.edge_fuzz import play, play_all
from tests.servers.edge_model_message import HEADER, Mismatch
from tests.servers.edge_wire import Script

pytestmark = pytest.mark.spec("F5")

# What is said only while many connections, full memory or an unreadable directory are there too.
NOT_BY_ONE_CLIENT = {
    reply.id
    for reply in (
        replies.TOO_MANY_CONNECTIONS,
        replies.TOO_MANY_FROM_ADDRESS,
        replies.TOO_BUSY,
        replies.CANNOT_TELL,
    )
}
PART = 50_000
PARTS = 20


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Bodies past 1,200 octets already go to the store, and nothing is logged."""
    monkeypatch.setattr(data, "HEADER", HEADER)
    monkeypatch.setattr(data, "SPILL", 1200)
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    structlog.configure(**before)


@pytest.mark.parametrize("first", [0, 2000])
async def test_thousands_of_dialogues_go_as_the_model_says(first):
    counts = await play_all(first, 2000)
    assert counts.messages > 500
    assert set(replies.CATALOGUE) - counts.said <= NOT_BY_ONE_CLIENT


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
async def test_a_million_dialogues_go_as_the_model_says(part):
    started = time.monotonic()
    counts = await play_all(1_000_000 + part * PART, PART)
    assert counts.messages > PART / 5
    rate = counts.scripts / (time.monotonic() - started)
    print(f"{counts.scripts} scripts, {counts.octets} octets, {counts.messages} messages taken; {rate:.0f} scripts/s")


GOOD = (b"EHLO x\r\nMAIL FROM:<a@far.test>\r\nRCPT TO:<ann@example.test>\r\nDATA\r\n", b"x\r\n..\r\n.\r\n", b"QUIT\r\n")


async def test_the_model_sees_a_dot_too_many(monkeypatch):
    assert (await play(Script(GOOD))).messages == 1
    monkeypatch.setattr(DataReader, "_take", _taking_dots_as_they_are)
    with pytest.raises(Mismatch, match="other octets"):
        await play(Script(GOOD))


def _taking_dots_as_they_are(self, section, *, stuffed):
    self.size += len(section)
    self._body += section[2:]


async def test_the_model_sees_a_message_that_ends_too_early(monkeypatch):
    monkeypatch.setattr(DataReader, "feed", _ending_at_a_bare_line_end)
    smuggling = b"x\n.\nMAIL FROM:<a@far.test>\r\n\r\n.\r\n"
    with pytest.raises(Mismatch, match="owed 521"):
        await play(Script((GOOD[0], smuggling)))


def _ending_at_a_bare_line_end(self, chunk):
    text, _, rest = chunk.partition(b"\n.\n")
    self._body += text
    self.size = len(text)
    return rest


async def test_the_model_sees_an_unknown_failure_behind_a_451(monkeypatch):
    def broken(self, chunk):
        raise ValueError("bug")

    monkeypatch.setattr(DataReader, "feed", broken)
    with pytest.raises(Mismatch, match="owed"):
        await play(Script(GOOD))


async def test_the_model_sees_a_fault_that_is_not_told(monkeypatch):
    monkeypatch.setitem(data._FAULTS, Fault.NUL, data._FAULTS[Fault.LINE_TOO_LONG])
    with pytest.raises(Mismatch, match=r"owed 554 5\.6\.0"):
        await play(Script((GOOD[0], b"a\0b\r\n.\r\n")))
