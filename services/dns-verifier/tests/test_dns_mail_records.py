"""The state of MX and SPF records of verified domains."""

import pytest

from postern_dns.rules import mx, spf
from postern_dns.rules.answers import Answer, Look, Server, Status

OWN = ("mx1.postern.example", "MX2.Postern.example.")


class Plain(dict):
    """Answers of a world in which every included record ends at once."""

    def get(self, question, default=None):
        return look("v=spf1 -all")


def look(*records, status=Status.RECORDS):
    return Look("acme.test", "acme.test", (Answer(Server("ns1.acme.test", "192.0.2.1"), status, records),))


@pytest.mark.spec("D4")
@pytest.mark.parametrize(
    "records, state, says",
    [
        (("10 mx1.postern.example", "20 mx2.postern.example"), "ok", "point here"),
        (("10 mx1.postern.example", "50 old.provider.test"), "warn", "old.provider.test"),
        (("10 old.provider.test",), "fail", "elsewhere"),
        (("0 .",), "fail", "null MX"),
    ],
)
def test_mx_records_are_compared_with_our_host_names(records, state, says):
    found = mx.judge(look(*records), OWN)
    assert found.state == state
    assert says in found.explanation
    assert found.found == tuple(sorted(records))


@pytest.mark.spec("D4")
@pytest.mark.parametrize("status", [Status.SERVFAIL, Status.TIMEOUT, Status.REFUSED])
def test_trouble_with_servers_cannot_tell(status):
    assert mx.judge(look(status=status), OWN).state == "cannot_tell"
    assert spf.judge(look(status=status), "spf.postern.example", Plain()).state == "cannot_tell"


def test_a_domain_without_mx_fails_and_an_installation_without_names_cannot_tell():
    assert mx.judge(look(status=Status.NO_DATA), OWN).state == "fail"
    assert mx.judge(look("10 mx1.postern.example"), ()).state == "cannot_tell"


@pytest.mark.spec("D4")
@pytest.mark.parametrize(
    "records, state, says",
    [
        (("v=spf1 include:spf.postern.example -all",), "ok", "in order"),
        (("V=SPF1 mx include:SPF.postern.example. ~ALL", "other"), "ok", "in order"),
        (("v=spf1 include:spf.postern.example redirect=_spf.acme.test",), "ok", "in order"),
        (("v=spf1 mx -all",), "warn", "missing"),
        (("v=spf1 -all include:spf.postern.example",), "warn", "after"),
        (("v=spf1 include:spf.postern.example",), "warn", "no “all”"),
        (("v=spf1 include:spf.postern.example +all",), "fail", "+all"),
        (("v=spf1 include:spf.postern.example all",), "fail", "+all"),
        (("v=spf1 -all", "v=spf1 mx -all"), "fail", "2 SPF records"),
        (("v=spf10 -all",), "fail", "no SPF record"),
        (("v=spf1",), "warn", "missing"),
    ],
)
def test_the_spf_record_is_one_with_our_include_and_an_end(records, state, says):
    found = spf.judge(look(*records), "spf.postern.example", Plain())
    assert found.state == state
    assert says in found.explanation


def test_without_an_include_to_expect_only_the_form_is_judged():
    assert spf.judge(look("v=spf1 mx -all"), "", Plain()).state == "ok"
    assert spf.judge(look(status=Status.NO_DATA), "", Plain()).explanation == "acme.test has no SPF record."
