"""A hosted policy is judged as senders would see it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from postern_common.mta_sts import Policy
from postern_dns.rules.answers import Answer, Look, Server, Status
from postern_dns.rules.mail_fields import MailFindings, mail_fields
from postern_dns.rules.mta_sts import Evidence, Fetched, judge
from postern_dns.rules.mx import MailVerdict

pytestmark = pytest.mark.spec("R11")
POLICY = Policy("enforce", ("mx1.postern.test", "*.cloud.test"), 604_800)
OURS = MailVerdict("ok", ("10 mx1.postern.test",), "")
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def look(*records, status=Status.NO_DATA):
    found = Status.RECORDS if records else status
    return Look("x.acme.test", "acme.test", (Answer(Server("ns", "192.0.2.1"), found, tuple(records)),))


UNTOLD = look(status=Status.SERVFAIL)
GOOD = Evidence(
    "mta-sts.acme.test",
    look(POLICY.record),
    look("v=TLSRPTv1; rua=mailto:tls@acme.test"),
    (look("192.0.2.80"), look()),
    Fetched(200, "text/plain", POLICY.text.encode()),
)


def judged(policy=POLICY, mx=OURS, **evidence):
    return judge("acme.test", policy, replace(GOOD, **evidence), mx)


def test_all_in_place_is_ok():
    verdict = judged()
    assert (verdict.state, verdict.is_told) == ("ok", True)
    assert {part.state for part in verdict.parts().values()} == {"ok"}


@pytest.mark.parametrize(
    ("record", "state", "word"),
    [
        (look(), "fail", "There is no _mta-sts record"),
        (look(status=Status.NXDOMAIN), "fail", "There is no _mta-sts record"),
        (look("v=spf1 -all"), "fail", "There is no _mta-sts record"),
        (look("v=STSv1; id=2016;"), "warn", "names another policy"),
        (look(POLICY.record, "v=STSv1; id=2016;"), "fail", "none of several"),
        (look("v=STSv1; id=a-b;"), "fail", "cannot read"),
        (look(POLICY.record, "v=spf1 -all"), "ok", "names the policy"),
        (UNTOLD, "cannot_tell", "could not tell"),
    ],
)
def test_the_record_must_name_the_policy_that_is_served(record, state, word):
    verdict = judged(record=record)
    assert (verdict.record.state, verdict.state) == (state, state)
    assert word in verdict.record.explanation
    if state == "fail":
        assert POLICY.record in verdict.record.explanation


@pytest.mark.parametrize(
    ("fetched", "word"),
    [
        (Fetched(404, "text/plain"), "status 404"),
        (Fetched(301, "text/plain"), "redirects"),
        (Fetched(200, "text/html", POLICY.text.encode()), "text/html"),
        (Fetched(200, "", POLICY.text.encode()), "nothing in particular"),
        (Fetched(200, "text/plain", POLICY.text.encode() + b"mx: a.test\r\n"), "another policy"),
        (Fetched(200, "text/plain", b"\xff"), "another policy"),
        (Fetched(failure="its certificate is not valid: certificate has expired"), "certificate has expired"),
    ],
)
def test_what_is_served_must_be_this_policy_as_senders_take_it(fetched, word):
    verdict = judged(fetched=fetched)
    assert (verdict.policy.state, verdict.state) == ("fail", "fail")
    assert word in verdict.policy.explanation


def test_a_server_that_is_away_is_looked_at_again_soon():
    verdict = judged(fetched=Fetched(failure="no connection could be made", is_passing=True))
    assert (verdict.policy.state, verdict.is_told) == ("fail", False)


def test_without_an_address_nothing_is_fetched():
    verdict = judged(addresses=(look(), look()), fetched=None)
    assert (verdict.host.state, verdict.policy.state) == ("fail", "fail")
    assert "CNAME" in verdict.host.explanation
    verdict = judged(addresses=(UNTOLD, look()), fetched=None)
    assert (verdict.host.state, verdict.policy.state, verdict.is_told) == ("cannot_tell", "cannot_tell", False)


@pytest.mark.parametrize(
    ("mode", "records", "state"),
    [
        ("enforce", ("10 mx1.postern.test", "20 in.cloud.test"), "ok"),
        ("enforce", ("10 mx1.postern.test", "20 mail.elsewhere.test"), "fail"),
        ("testing", ("10 mx1.postern.test", "20 mail.elsewhere.test"), "warn"),
        ("none", ("10 mx1.postern.test", "20 mail.elsewhere.test"), "ok"),
        ("enforce", (), "fail"),
        ("enforce", ("0 .",), "ok"),
    ],
)
def test_mail_servers_that_the_policy_leaves_out_are_told(mode, records, state):
    policy = replace(POLICY, mode=mode)
    verdict = judge("acme.test", policy, GOOD, MailVerdict("warn", records, ""))
    assert verdict.mx.state == state
    if "20 mail.elsewhere.test" in records:
        assert "mail.elsewhere.test" in verdict.mx.explanation


def test_a_missing_report_record_is_a_warning_and_a_broken_one_a_failure():
    assert judged(reports=look()).reports.state == "warn"
    assert judged(reports=look("v=TLSRPTv1; rua=")).reports.state == "fail"
    assert judged(reports=UNTOLD).reports.state == "cannot_tell"


def domain(**fields):
    hosted = {"mode": "enforce", "mx": list(POLICY.mx), "max_age": POLICY.max_age, "check": None}
    return {"mx": None, "spf": None, "mta_sts": hosted, "mail_dns_next_at": NOW, **fields}


FINDINGS = MailFindings(NOW, OURS, OURS, judged())


def test_what_was_found_is_written_with_the_steps_that_changed():
    fields, changed = mail_fields(domain(), domain(), FINDINGS, chance=0.5)
    assert changed == [("mx", "ok"), ("spf", "ok"), ("mta-sts", "ok")]
    check = fields["mta_sts.check"]
    assert (check["state"], check["policy_id"], check["at"]) == ("ok", POLICY.id, NOW)
    assert check["record"] == {"state": "ok", "found": [POLICY.record],
                               "explanation": "The record names the policy that is served."}  # fmt: skip
    assert fields["mail_dns_next_at"] == NOW + timedelta(hours=24)


def test_what_was_found_of_a_policy_that_has_been_changed_meanwhile_is_dropped():
    changed_policy = domain()["mta_sts"] | {"mode": "none"}
    fields, _ = mail_fields(domain(), domain(mta_sts=changed_policy), FINDINGS, chance=0.5)
    assert "mta_sts.check" not in fields
    without = domain()
    del without["mta_sts"]
    fields, _ = mail_fields(domain(), without, FINDINGS, chance=0.5)
    assert "mta_sts.check" not in fields


def test_asked_for_meanwhile_another_look_follows_at_once():
    asked = NOW + timedelta(seconds=3)
    fields, _ = mail_fields(domain(), domain(mail_dns_next_at=asked), FINDINGS, chance=0.5)
    assert fields["mail_dns_next_at"] == asked
