"""The message reader: any chunking gives the same result, and only CR LF . CR LF ends a message."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_edge.reader import DataReader, Fault

LIMIT = 200
LINE = 40


def read(pieces, max_size=LIMIT, max_line=LINE):
    reader = DataReader(max_size, max_line)
    for index, piece in enumerate(pieces):
        rest = reader.feed(piece)
        if rest is not None:
            body = None if reader.fault else reader.take()
            return reader.fault, body, rest + b"".join(pieces[index + 1 :])
    return reader.fault, None, None


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


octets = st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"\0", b"x", b"y" * 30, b"\r\n.\r\n"]), max_size=14)
clean = st.lists(st.sampled_from([b"\r\n", b".", b"x", b"\xff", b"y" * 30, b"..", b"."]), max_size=14)


@pytest.mark.spec("F5")
@given(octets, st.lists(st.integers(0, 500), max_size=12))
def test_any_chunking_gives_the_same_result(parts, places):
    data = b"".join(parts) + b"\r\n.\r\nRSET\r\n"
    whole = read([data])
    cut_up = read(cut(data, places))
    single = read([bytes([octet]) for octet in data])
    assert cut_up[:2] == whole[:2] == single[:2]
    if whole[0] is not Fault.BARE_LINE_END:
        assert cut_up[2] == whole[2] == single[2]


@given(clean, st.lists(st.integers(0, 500), max_size=12))
def test_what_was_stuffed_comes_out_as_it_was(parts, places):
    body = b"".join(parts) + b"\r\n"
    stuffed = b"." + body if body.startswith(b".") else body
    stuffed = stuffed.replace(b"\r\n.", b"\r\n..")
    assert read(cut(stuffed + b".\r\n", places), 10_000, 10_000) == (None, body, b"")


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a.\r\n.b\r\n.\r\n", b"a.\r\nb\r\n"),
    ],
)
def test_dots_are_unstuffed(sent, body):
    assert read([sent]) == (None, body, b"")


@pytest.mark.spec("F5")
def test_case_47_first_line_of_dots_keeps_its_octets():
    assert read([b"...test\r\n", b".\r\n"]) == (None, b"..test\r\n", b"")


def test_what_follows_the_end_is_handed_back():
    assert read([b"a\r\n.\r\nMAIL FROM:<>\r\n"])[2] == b"MAIL FROM:<>\r\n"


@pytest.mark.spec("F5")
@pytest.mark.parametrize(
    "bare", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r"]
)
def test_bare_line_end_is_refused_at_once(bare):
    reader = DataReader(LIMIT, LINE)
    assert reader.feed(b"a" + bare + b"b\r\n") == b""
    assert reader.fault is Fault.BARE_LINE_END
    assert reader.kept == 0


@pytest.mark.spec("R13")
def test_body_of_exactly_the_limit_passes_and_one_more_does_not():
    line = b"x" * 18 + b"\r\n"
    assert read([line * 10 + b".\r\n"])[0] is None
    assert read([line * 10 + b"\r\n.\r\n"])[0] is Fault.TOO_LARGE


@pytest.mark.spec("F5")
def test_nul_is_told_apart():
    assert read([b"a\0b\r\n.\r\n"]) == (Fault.NUL, None, b"")


@pytest.mark.spec("F5")
@given(st.lists(st.integers(0, 500), max_size=12))
def test_case_64_lines_up_to_the_limit_pass_unchanged(places):
    longest = b"x" * (LINE - 2) + b"\r\n"
    assert read(cut(longest * 3 + b".\r\n", places)) == (None, longest * 3, b"")
    assert read(cut(b"x" + longest + b".\r\n", places))[0] is Fault.LINE_TOO_LONG
    assert read(cut(longest + b"x" + longest + b".\r\n", places))[0] is Fault.LINE_TOO_LONG


@given(st.lists(st.integers(0, LINE - 2), max_size=30), st.lists(st.integers(0, 900), max_size=12))
def test_no_chunking_makes_a_line_too_long(lengths, places):
    data = b"".join(b"x" * length + b"\r\n" for length in lengths) + b".\r\n"
    assert read(cut(data, places), 10_000)[0] is None


@pytest.mark.spec("F5")
def test_case_52_nothing_is_kept_of_a_message_that_is_too_large():
    reader = DataReader(1000, 65536)
    for _ in range(100):
        assert reader.feed(b"x" * 1000) is None
    assert reader.kept == 0
    assert reader.feed(b"\r\n.\r\n") == b""
    assert reader.fault is Fault.TOO_LARGE
