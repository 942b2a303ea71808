"""The catalogue of replies: each can be said on the wire, and the reference page tells what each means."""

import re

import pytest

from postern_edge import replies
from postern_edge.reply_meanings import MEANINGS


@pytest.mark.spec("F5")
def test_every_reply_has_a_meaning_and_nothing_else_has_one():
    assert set(MEANINGS) == {*replies.CATALOGUE, replies.queued("X").id}


@pytest.mark.parametrize("reply", replies.CATALOGUE.values(), ids=lambda reply: reply.id)
def test_reply_is_one_line_with_an_enhanced_code_of_its_class(reply):
    # RFC 5321 4.5.3.1.5: 512 octets at most; RFC 2034 4: the classes agree, and 354 has none.
    assert re.fullmatch(rb"[245]\d\d [245]\.\d\.\d [ -~]+\r\n|354 [ -~]+\r\n", reply.wire)
    assert len(reply.wire) <= 512
    assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0]
