"""Policies of MTA-STS as senders read them, and the records around them as their owners write them."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postern_common.errors import Rejected
from postern_common.mta_sts import (
    MAX_DESTINATIONS,
    MAX_MAX_AGE,
    MIN_MAX_AGE,
    Policy,
    is_destination,
    mail_address,
    parse_pattern,
    record_id,
    report_destinations,
    reports_record,
)

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOST = st.builds(lambda labels: ".".join([*labels, "test"]), st.lists(LABEL, min_size=1, max_size=3))
POLICIES = st.builds(
    Policy,
    st.sampled_from(["none", "testing", "enforce"]),
    st.lists(st.builds(lambda host, wild: ("*." if wild else "") + host, HOST, st.booleans()), max_size=4).map(tuple),
    st.integers(MIN_MAX_AGE, MAX_MAX_AGE),
)
# RFC 8461 3.2, sts-policy-record, for the fields that are written here.
GRAMMAR = re.compile(
    r"version: STSv1\r\nmode: (?:none|testing|enforce)\r\n(?:mx: (?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)+\r\n)*"
    r"max_age: \d{1,10}\r\n"
)


@pytest.mark.spec("R11")
@given(POLICIES)
def test_a_policy_is_written_as_the_grammar_wants_it_and_its_record_names_its_id(policy):
    assert GRAMMAR.fullmatch(policy.text)
    assert record_id(policy.record) == policy.id


@pytest.mark.spec("R11")
@given(POLICIES, POLICIES)
def test_the_id_changes_with_every_change_and_with_nothing_else(one, other):
    assert (one.id == other.id) == (one == other)


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    ("patterns", "host", "covered"),
    [
        (("mx1.acme.test",), "mx1.acme.test", True),
        (("mx1.acme.test",), "MX1.Acme.Test.", True),
        (("mx1.acme.test",), "mx2.acme.test", False),
        (("*.acme.test",), "mx2.acme.test", True),
        (("*.acme.test",), "a.mx2.acme.test", False),
        (("*.acme.test",), "acme.test", False),
        (("*.acme.test",), ".acme.test", False),
        (("mx1.acme.test", "*.cloud.test"), "x.cloud.test", True),
        ((), "x.cloud.test", False),
    ],
)
def test_a_wildcard_stands_for_one_label(patterns, host, covered):
    assert Policy("enforce", patterns, MIN_MAX_AGE).covers(host) is covered


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("v=STSv1; id=20160831085700Z;", "20160831085700Z"),
        ("v=STSv1;id=1", "1"),
        ("v=STSv1; id=1; ", "1"),
        ("v=STSv1; later=x:y/z; id=1", "1"),
        ("v=STSv1; id=" + "a" * 32, "a" * 32),
        ("v=STSv1; id=" + "a" * 33, None),
        ("v=STSv1; id=a-b", None),
        ("v=STSv1; id=a b", None),
        ("v=STSv1; id=", None),
        ("v=STSv1; id=1; id=2", None),
        ("v=STSv1; id=1; ;", None),
        ("v=STSv1;", None),
        ("v=STSv1", None),
        ("v=stsv1; id=1", None),
        ("v=STSv2; id=1", None),
        ("id=1; v=STSv1;", None),
    ],
)
def test_a_record_is_read_strictly(text, found):
    assert record_id(text) == found


@given(st.text(max_size=60))
@example("v=STSv1; id=1; id=2")
def test_no_text_breaks_the_reading_of_records(text):
    found = record_id(text)
    assert found is None or re.fullmatch("[A-Za-z0-9]{1,32}", found)
    for records in ([text], ["v=TLSRPTv1; rua=" + text]):
        assert all(is_destination(one) for one in report_destinations(records) or ())


@pytest.mark.spec("R11")
@pytest.mark.parametrize("text", ["*.acme.test", "MX1.acme.test.", "*.bücher.test"])
def test_patterns_are_kept_in_one_form(text):
    pattern = parse_pattern(text)
    assert pattern == pattern.lower()
    assert pattern.isascii()
    assert not pattern.endswith(".")
    assert parse_pattern(pattern) == pattern


@pytest.mark.spec("R11")
@pytest.mark.parametrize("text", ["*", "*.", "*.com", "*.*.acme.test", "mx*.acme.test", "192.0.2.1", "", "a\r\nb.test"])
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(Rejected) as refused:
        parse_pattern(text, pointer="/extra_mx/0")
    assert refused.value.pointer == "/extra_mx/0"


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["v=TLSRPTv1; rua=mailto:tls@acme.test"], ("mailto:tls@acme.test",)),
        (
            ["v=spf1 -all", "v=TLSRPTv1;rua=mailto:a@acme.test , https://r.acme.test/v1?a=b;"],
            ("mailto:a@acme.test", "https://r.acme.test/v1?a=b"),
        ),
        (["v=TLSRPTv1; later=1; rua=mailto:a@acme.test"], ("mailto:a@acme.test",)),
        (["v=TLSRPTv1; rua=mailto:a@acme.test,mailto:a@acme.test"], ("mailto:a@acme.test",)),
        (["v=TLSRPTv1; rua=ftp://acme.test/,mailto:a@acme.test"], ("mailto:a@acme.test",)),
        (["v=TLSRPTv1; rua=mailto:a@acme.test", "v=TLSRPTv1; rua=mailto:b@acme.test"], ()),
        (["v=TLSRPTv1; rua=mailto:a@acme.test; rua=mailto:b@acme.test"], ()),
        (["v=TLSRPTv1; rua=mailto:a@acme.test; nonsense"], ()),
        (["v=TLSRPTv1; rua="], ()),
        (["v=TLSRPTv1;"], ()),
        (["v=TLSRPTv2; rua=mailto:a@acme.test"], ()),
        ([], ()),
    ],
)
def test_the_record_that_asks_for_reports_is_read_strictly(texts, found):
    assert report_destinations(texts) == found


@pytest.mark.spec("R11")
def test_no_record_makes_us_send_to_many_places():
    many = ",".join(f"mailto:a{number}@acme.test" for number in range(50))
    assert len(report_destinations([f"v=TLSRPTv1; rua={many}"])) == MAX_DESTINATIONS


@pytest.mark.spec("R11")
def test_a_record_made_to_be_hard_to_read_is_read_at_once():
    began = time.perf_counter()
    assert report_destinations([f"v=TLSRPTv1; rua={'a,' * 26} b c"]) == ()
    assert report_destinations([f"v=TLSRPTv1; rua={'a,' * 20_000} b c"]) == ()
    assert time.perf_counter() - began < 2


@pytest.mark.spec("R11")
def test_what_is_printed_to_be_published_asks_for_reports_at_these_places():
    wanted = ["mailto:tls@acme.test", "https://reports.acme.test/tls"]
    assert report_destinations([reports_record(wanted)]) == tuple(wanted)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("mailto:tls@acme.test", "tls@acme.test"),
        ("MAILTO:tls@acme.test", "tls@acme.test"),
        ("mailto:tls%2Breports@acme.test?subject=x", "tls+reports@acme.test"),
        ("mailto:a@acme.test%0d%0aRCPT", None),
        ("mailto:a@acme.test%20", None),
        ("mailto:%ff@acme.test", None),
        ("mailto:", None),
        ("mailto:a", None),
        ("https://acme.test", None),
    ],
)
def test_a_mailto_uri_names_one_address(uri, address):
    assert mail_address(uri) == address


@pytest.mark.parametrize(
    "uri",
    ["http://acme.test/", "https://192.0.2.1/", "https://user@acme.test/", "https://acme.test:99999/", "https://acme/",
     "https://acme.test/#x", "https://[::1]/", "https:///x", "https://acme.test/\r\nX: y", "file:///etc/passwd"],
)  # fmt: skip
def test_what_reports_cannot_be_sent_to_is_no_destination(uri):
    assert not is_destination(uri)
