"""MTA-STS by the rules: the record, the policy's text, its hosts, its age (RFC 8461)."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_common.mta_sts import LARGEST_POLICY, MAX_MAX_AGE, Policy
from postern_edge.rules.mta_sts import KeptPolicy, Malformed, StsPolicy, announced_id, parse_policy

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
GOOD = "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.com\r\nmx: *.Example.NET\r\nmax_age: 604800\r\n"
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=2, max_size=4).map(".".join)


# -- the record --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "records,found",
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1; id=1"], "1"),
        (["v=spf1 -all", "v=STSv1;id=1;"], "1"),
        (["v=STSv1; ext=a:b; id=1;"], "1"),
        ([], None),
        (["v=STSv1; id=1;", "v=STSv1; id=1;"], None),  # RFC 8461 3.1: exactly one
        (["v=STSv2; id=1;"], None),
        (["v=STSv1; id=;"], None),
        (["v=STSv1; id=a-b;"], None),
        ([f"v=STSv1; id={'a' * 33};"], None),
        (["v=STSv1;"], None),
        (["v=stsv1; id=1;"], None),
    ],
)
def test_one_well_formed_record_announces_a_policy(records, found):
    assert announced_id(records) == found


@given(st.lists(st.text(max_size=60) | st.text(max_size=60).map("v=STSv1;{}".format), max_size=3))
def test_no_record_breaks_its_reader(records):
    found = announced_id(records)
    assert found is None or (found.isalnum() and len(found) <= 32)


# -- the policy --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R11")
def test_a_policy_is_read_with_its_hosts_in_lower_case():
    policy = parse_policy(GOOD)
    assert (policy.mode, policy.mx, policy.max_age_seconds) == ("enforce", ("mx1.example.com", "*.example.net"), 604800)
    assert policy.lines[3] == "mx: *.Example.NET"
    assert parse_policy(GOOD.replace("\r\n", "\n")) == policy
    assert parse_policy(GOOD.removesuffix("\r\n")) == policy


@pytest.mark.spec("R11")
def test_unknown_fields_are_passed_over_and_of_repeated_ones_the_first_counts():
    text = GOOD.replace("mode: enforce", "mode: testing\r\nmode: enforce\r\nnew_field: something, else")
    policy = parse_policy(text)
    assert policy.mode == "testing"
    assert not any("new_field" in line for line in policy.lines)


@pytest.mark.spec("R11")
def test_the_mode_none_needs_no_hosts():
    assert parse_policy("version: STSv1\nmode: none\nmax_age: 86400\n") == StsPolicy(
        "none", (), 86400, ("version: STSv1", "mode: none", "max_age: 86400")
    )


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "old,new",
    [
        ("version: STSv1\r\n", ""),
        ("STSv1", "STSv2"),
        ("mode: enforce\r\n", ""),
        ("enforce", "Enforce"),
        ("max_age: 604800", "max_age: -1"),
        ("max_age: 604800", "max_age: 12345678901"),
        ("max_age: 604800\r\n", ""),
        ("mx1.example.com", "mx1.*.example.com"),
        ("mx1.example.com", "mx1.exämple.com"),
        ("mx1.example.com", "mx1 example com"),
        ("mx1.example.com", "[192.0.2.1]"),
        ("mx1.example.com", "*"),
        ("mode: enforce", "mode enforce"),
        ("mx: mx1.example.com\r\nmx: *.Example.NET\r\n", ""),
        (GOOD, "<html>Not found</html>"),
        (GOOD, ""),
    ],
)
def test_what_is_no_policy_is_refused(old, new):
    with pytest.raises(Malformed):
        parse_policy(GOOD.replace(old, new))


@pytest.mark.spec("R11")
@pytest.mark.parametrize("field", ["mx: mx1.example.com", "later: x"])
def test_the_longest_line_made_to_be_hard_to_read_is_read_at_once(field):
    began = time.perf_counter()
    with pytest.raises(Malformed):
        parse_policy(f"version: STSv1\nmode: none\n{field}{' ' * (LARGEST_POLICY - 100)}x")
    assert time.perf_counter() - began < 2


@pytest.mark.spec("R11")
def test_what_counts_for_nothing_is_not_kept_of_a_policy():
    policy = parse_policy(GOOD + "mode: testing\r\n" * 4000 + "later: 1\r\n")
    assert policy.lines == tuple(GOOD.splitlines())


@pytest.mark.spec("R11")
def test_a_year_is_the_longest_that_a_policy_holds():
    assert parse_policy(GOOD.replace("604800", "9999999999")).max_age_seconds == MAX_MAX_AGE


@given(st.text(max_size=300) | st.lists(st.sampled_from(GOOD.splitlines()), max_size=8).map("\n".join))
def test_no_text_breaks_the_parser(text):
    try:
        policy = parse_policy(text)
    except Malformed:
        return
    assert policy.mode == "none" or policy.mx
    assert 0 <= policy.max_age_seconds <= MAX_MAX_AGE


@given(
    st.sampled_from(["none", "testing", "enforce"]),
    st.lists(HOST | HOST.map("*.{}".format), min_size=1, max_size=5, unique=True),
    st.integers(0, MAX_MAX_AGE),
    HOST,
)
def test_what_we_serve_is_read_as_it_is_meant(mode, patterns, max_age, host):
    served = Policy(mode, tuple(patterns), max_age)
    policy = parse_policy(served.text)
    assert (policy.mode, policy.mx, policy.max_age_seconds) == (mode, tuple(patterns), max_age)
    assert policy.names(host) == served.covers(host)
    assert announced_id([served.record]) == served.id


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "host,is_named",
    [
        ("mx1.example.com", True),
        ("MX1.Example.Com.", True),
        ("mx2.example.com", False),
        ("a.example.net", True),
        ("a.b.example.net", False),  # RFC 8461 4.1: one label
        ("example.net", False),
    ],
)
def test_a_policy_names_hosts_whole_or_by_a_star_for_one_label(host, is_named):
    assert parse_policy(GOOD).names(host) is is_named


# -- its age -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("R11")
def test_a_policy_holds_for_its_max_age_and_is_fetched_again_long_before():
    kept = KeptPolicy(parse_policy(GOOD), "1", NOW)
    week = timedelta(seconds=604800)
    assert kept.holds(NOW + week - timedelta(seconds=1))
    assert not kept.holds(NOW + week)
    assert not kept.wants_refreshing("1", NOW + timedelta(hours=23))
    assert kept.wants_refreshing("1", NOW + timedelta(hours=24))
    assert kept.wants_refreshing("2", NOW)
    assert not kept.wants_refreshing(None, NOW)  # that the record is gone tells nothing
