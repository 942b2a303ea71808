"""Every outcome of a look at the ownership record, from what servers said."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_dns.rules import ownership
from postern_dns.rules.answers import RESOLVER, Answer, Look, Server, Status
from postern_dns.rules.ownership import Evidence, expected_value, judge, matches, text_of

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
CODE = "mfzwizltoq2gk3tumfzwizltoq"
VALUE = expected_value(CODE)
DOMAIN = "eng.acme.test"
LABEL = "_postern-challenge.eng.acme.test"
ZONE = "acme.test"
NS1, NS2, NS3 = (Server(f"ns{n}.acme.test", f"192.0.2.{n}") for n in (1, 2, 3))


def look(name, *answers, zone=ZONE, cached_for=None):
    return Look(name, zone, tuple(answers), cached_for)


def said(status, *records, server=NS1, target=None, followed=None):
    return Answer(server, status, records, target, followed)


def both(status, *records, servers=(NS1, NS2)):
    return [said(status, *records, server=server) for server in servers]


def evidence(apex=(), label=(), doubled=()):
    return Evidence(
        DOMAIN,
        look(DOMAIN, *(apex or both(Status.NO_DATA))),
        look(LABEL, *(label or both(Status.NXDOMAIN))),
        tuple(doubled),
    )


def verdict(**answers):
    return judge(evidence(**answers), CODE, now=NOW)


@pytest.mark.spec("D1")
@pytest.mark.parametrize("place", ["apex", "label"])
def test_the_value_at_either_name_proves_the_domain(place):
    found = verdict(**{place: both(Status.RECORDS, VALUE)})
    assert (found.outcome, found.reason) == ("match", "verified")
    assert found.found == (VALUE,)
    assert {row["reason"] for row in found.servers} == {"verified"}
    assert "2 of 2" in found.explanation


@pytest.mark.spec("D6")
def test_other_records_beside_ours_do_not_matter():
    assert verdict(apex=both(Status.RECORDS, "v=spf1 -all", "MS=ms1", VALUE)).reason == "verified"


@pytest.mark.spec("D6")
@pytest.mark.parametrize(
    "strings",
    [
        (b"postern-verification=", CODE.encode()),
        (f'"{VALUE}"'.encode(),),
        (b'  "', VALUE.encode(), b'"  '),
        (f'" {VALUE} "'.encode(),),
        (f"\t{VALUE} ".encode(),),
        tuple(bytes([octet]) for octet in VALUE.encode()),
    ],
)
def test_case_31_split_strings_join_and_one_pair_of_quotes_is_removed(strings):
    assert matches(text_of(strings), CODE)


@pytest.mark.spec("D6")
@pytest.mark.parametrize(
    "record",
    [
        f'""{VALUE}""',
        f'"{VALUE}',
        f"postern-verification= {CODE}",
        f"Postern-Verification={CODE}",
        VALUE.upper(),
        VALUE + "a",
        VALUE[:-1],
        CODE,
        "",
        '"',
        '""',
        f"{VALUE}\u00a0",
        f"\ud800{VALUE}",
    ],
)
def test_values_that_only_resemble_ours_prove_nothing(record):
    assert not matches(record, CODE)


@given(st.lists(st.integers(0, len(VALUE)), max_size=8), st.sampled_from(["", '"']), st.text(" \t", max_size=3))
def test_however_a_value_is_split_it_is_the_same_value(cuts, quote, blanks):
    whole = (blanks + quote + VALUE + quote + blanks).encode()
    edges = [0, *sorted(cuts), len(whole)]
    strings = tuple(whole[start:end] for start, end in itertools.pairwise(edges))
    assert matches(text_of(strings), CODE)


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_text_of_any_octets_is_printable(strings):
    assert all(char.isprintable() or char == "\t" for char in text_of(tuple(strings)))


def test_case_29_a_foreign_wildcard_shows_another_code_and_proves_nothing():
    other = expected_value("a" * 26)
    found = verdict(label=both(Status.RECORDS, other))
    assert (found.outcome, found.reason, found.found) == ("mismatch", "txt_present_no_match", (other,))
    assert other in found.explanation
    assert VALUE in found.explanation


def test_nothing_published_is_absent_and_tells_what_to_type():
    found = verdict()
    assert (found.outcome, found.reason, found.found) == ("absent", "no_txt", ())
    assert "host to type is _postern-challenge.eng" in found.explanation
    assert "ns1.acme.test (192.0.2.1)" in found.explanation
    assert VALUE in found.explanation
    assert [row["reason"] for row in found.servers] == ["no_txt", "no_txt"]


def test_a_domain_that_does_not_exist_is_told_apart():
    found = verdict(apex=both(Status.NXDOMAIN), label=both(Status.NXDOMAIN))
    assert (found.outcome, found.reason) == ("absent", "nxdomain")
    assert "does not exist" in found.explanation


@pytest.mark.spec("D3")
@pytest.mark.parametrize(
    "status, reason",
    [
        (Status.SERVFAIL, "servfail_or_dnssec_bogus"),
        (Status.REFUSED, "refused"),
        (Status.LAME, "refused"),
        (Status.FORBIDDEN, "refused"),
        (Status.TIMEOUT, "timeout"),
        (Status.UNREACHABLE, "timeout"),
    ],
)
def test_failures_of_servers_are_never_read_as_absence(status, reason):
    for answers in ({"apex": both(status)}, {"label": both(status)}, {"apex": both(status), "label": both(status)}):
        found = verdict(**answers)
        assert (found.outcome, found.reason) == ("cannot_tell", reason)
        assert "looked up again" in found.explanation
        assert reason in {row["reason"] for row in found.servers}


@pytest.mark.spec("D3")
def test_absence_needs_at_least_half_of_the_servers():
    silent = said(Status.TIMEOUT, server=NS2), said(Status.TIMEOUT, server=NS3)
    assert verdict(apex=[said(Status.NO_DATA), *silent]).reason == "timeout"
    assert verdict(apex=[said(Status.NO_DATA), silent[0]]).reason == "no_txt"


def test_servers_that_cannot_be_reached_from_here_have_no_vote():
    answers = [said(Status.RECORDS, VALUE), said(Status.UNREACHABLE, server=NS2), said(Status.FORBIDDEN, server=NS3)]
    assert verdict(apex=answers).reason == "verified"


def test_a_majority_verifies_and_less_is_partial_propagation():
    yes, no = said(Status.RECORDS, VALUE), said(Status.NO_DATA, server=NS2)
    also = said(Status.RECORDS, VALUE, server=NS3)
    assert verdict(apex=[yes, no, also]).reason == "verified"
    found = verdict(apex=[yes, no])
    assert (found.outcome, found.reason) == ("cannot_tell", "partial_propagation")
    assert "1 of 2" in found.explanation
    assert [row["reason"] for row in found.servers] == ["verified", "no_txt"]


def test_case_28_a_cname_at_the_domain_points_to_the_underscore_label():
    found = verdict(apex=[said(Status.CNAME, target="shops.provider.test", server=s) for s in (NS1, NS2)])
    assert (found.outcome, found.reason) == ("cannot_tell", "cname_at_name")
    assert "shops.provider.test" in found.explanation
    assert LABEL in found.explanation


def test_case_28_the_underscore_label_proves_a_domain_that_is_a_cname():
    apex = [said(Status.CNAME, target="shops.provider.test", server=s) for s in (NS1, NS2)]
    assert verdict(apex=apex, label=both(Status.RECORDS, VALUE)).reason == "verified"


@pytest.mark.spec("D6")
def test_a_cname_at_the_label_is_judged_by_what_it_leads_to():
    def through(*records, status=Status.RECORDS):
        target = look("d.verify.test", said(status, *records, server=NS3), zone="verify.test")
        return [said(Status.CNAME, target="d.verify.test", server=s, followed=target) for s in (NS1, NS2)]

    found = verdict(label=through(VALUE))
    assert found.reason == "verified"
    assert "d.verify.test" in found.explanation
    assert found.found == (VALUE,)
    assert verdict(label=through("other")).reason == "txt_present_no_match"
    assert verdict(label=through(status=Status.NXDOMAIN)).reason == "no_txt"
    assert verdict(label=through(status=Status.TIMEOUT)).reason == "timeout"


def test_a_cname_chain_without_end_says_so():
    endless = look("b.test", said(Status.CNAME, target="a.test"), zone="b.test")
    found = verdict(label=[said(Status.CNAME, target="b.test", server=s, followed=endless) for s in (NS1, NS2)])
    assert found.reason == "cname_at_name"
    assert "does not end" in found.explanation


def test_case_27_a_doubled_name_is_found_and_the_hint_uses_the_zone_cut():
    assert ownership.doubled_names(DOMAIN, ZONE) == (
        "eng.acme.test.acme.test",
        "_postern-challenge.eng.acme.test.acme.test",
    )
    doubled = look("_postern-challenge.eng.acme.test.acme.test", *both(Status.RECORDS, VALUE))
    found = verdict(doubled=[look("eng.acme.test.acme.test", *both(Status.NXDOMAIN)), doubled])
    assert (found.outcome, found.reason) == ("mismatch", "found_at_doubled_name")
    assert "pasted the full name" in found.explanation
    assert "host to type is _postern-challenge.eng." in found.explanation
    assert found.found == (VALUE,)


def test_names_too_long_for_the_dns_are_not_doubled():
    assert ownership.doubled_names("a" * 60 + ".test", "b." * 95 + "test") == ()
    assert ownership.doubled_names(DOMAIN, None) == ()


def test_a_resolvers_answer_says_how_old_it_may_be_and_not_which_resolver():
    apex = look(DOMAIN, Answer(RESOLVER, Status.NO_DATA), cached_for=timedelta(minutes=30))
    label = look(LABEL, Answer(RESOLVER, Status.NXDOMAIN), cached_for=timedelta(minutes=5))
    found = judge(Evidence(DOMAIN, apex, label), CODE, now=NOW)
    assert found.reason == "no_txt"
    assert "cached until 12:30 UTC" in found.explanation
    assert found.servers == ({"name": "configured resolver", "address": "", "reason": "no_txt"},)


def test_what_is_shown_is_bounded():
    found = verdict(apex=both(Status.RECORDS, *(f"record {n} " + "x" * 900 for n in range(80))))
    assert len(found.found) == ownership.MAX_FOUND
    assert max(map(len, found.found)) <= ownership.MAX_FOUND_CHARACTERS
    assert len(found.explanation) < 1200
