"""A report about TLS as its receiver reads it, and when it is sent (RFC 8460)."""

import email
import email.policy
import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from postern_dns.rules.report_schedule import TRIED, day_to_report, first_attempt, next_attempt
from postern_dns.rules.tls_report import Report, Reporter, ReportMail
from postern_dns.settings import DnsSettings

pytestmark = pytest.mark.spec("R11")
REPORTER = Reporter("Postern Örg", "tls-reports@mail.postern.test")
NOW = datetime(2026, 11, 29, 2, tzinfo=UTC)


def failure(result_type="certificate-expired", count=2, **fields):
    found = {
        "result_type": result_type,
        "sending_mta_ip": "192.0.2.25",
        "receiving_mx_hostname": "mx1.acme.test",
        "receiving_ip": "198.51.100.7",
        "failure_reason_code": "",
    }
    return {**found, "count": count, **fields}


def result(policy_type="sts", successes=5, failures=(), **fields):
    return {
        "policy_domain": "acme.test",
        "policy_type": policy_type,
        "policy_key": "abc",
        "policy_string": ["version: STSv1", "mode: testing"] if policy_type == "sts" else [],
        "mx_host": ["*.acme.test"] if policy_type == "sts" else [],
        "successes": successes,
        "failures": {str(at): one for at, one in enumerate(failures)},
        **fields,
    }


def report(*results):
    return Report(REPORTER, "2026-11-28", "acme.test", results or (result(failures=[failure()]),))


def test_a_report_has_the_members_that_receivers_expect():
    found = json.loads(
        gzip.decompress(
            report(
                result(failures=[failure(), failure("starttls-not-supported", 1, receiving_ip="")]),
                result("no-policy-found"),
            ).file()
        )
    )
    assert set(found) == {"organization-name", "date-range", "contact-info", "report-id", "policies"}
    assert found["organization-name"] == "Postern Örg"
    assert found["date-range"] == {"start-datetime": "2026-11-28T00:00:00Z", "end-datetime": "2026-11-28T23:59:59Z"}
    plain, sts = found["policies"]
    assert plain == {
        "policy": {"policy-type": "no-policy-found", "policy-domain": "acme.test"},
        "summary": {"total-successful-session-count": 5, "total-failure-session-count": 0},
    }
    assert sts["policy"] == {
        "policy-type": "sts", "policy-domain": "acme.test", "policy-string": ["version: STSv1", "mode: testing"],
        "mx-host": ["*.acme.test"],
    }  # fmt: skip
    assert sts["summary"] == {"total-successful-session-count": 5, "total-failure-session-count": 3}
    assert sts["failure-details"] == [
        {"result-type": "certificate-expired", "sending-mta-ip": "192.0.2.25", "receiving-ip": "198.51.100.7",
         "receiving-mx-hostname": "mx1.acme.test", "failed-session-count": 2},
        {"result-type": "starttls-not-supported", "sending-mta-ip": "192.0.2.25",
         "receiving-mx-hostname": "mx1.acme.test", "failed-session-count": 1},
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=4)), max_size=4))
def test_sums_are_those_of_what_was_counted(counts):
    results = [
        result(successes=good, failures=[failure(count=bad) for bad in bads], policy_key=str(number))
        for number, (good, bads) in enumerate(counts)
    ]
    summaries = [one["summary"] for one in Report(REPORTER, "2026-11-28", "acme.test", results).document()["policies"]]
    assert [one["total-successful-session-count"] for one in summaries] == [good for good, _ in counts]
    assert [one["total-failure-session-count"] for one in summaries] == [sum(bads) for _, bads in counts]


def test_a_report_made_twice_is_the_same_to_the_last_octet():
    assert report().file() == report().file()
    assert report().id == report(result(successes=9)).id
    assert report().id != Report(REPORTER, "2026-11-29", "acme.test", ()).id


def test_the_file_is_named_by_who_about_whom_and_when():
    """RFC 8460 5.1."""
    assert re.fullmatch(
        r"mail\.postern\.test!acme\.test!1795824000!1795910399![0-9a-f]+\.json\.gz", report().file_name
    )  # fmt: skip


def test_the_mail_is_a_report_of_its_own_kind_with_the_file_in_it():
    """RFC 8460 5.3."""
    carried = ReportMail(report(), "tls@acme.test", NOW)
    raw = carried.message()
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    found = email.message_from_bytes(raw, policy=email.policy.default)
    assert found.get_content_type() == "multipart/report"
    assert found.get_param("report-type") == "tlsrpt"
    assert found["TLS-Report-Domain"] == "acme.test"
    assert found["TLS-Report-Submitter"] == "mail.postern.test"
    assert re.fullmatch(
        r"Report Domain: acme\.test Submitter: mail\.postern\.test Report-ID: <\S+@\S+>", found["Subject"]
    )
    assert found["Subject"] == carried.subject
    assert (found["To"], found["From"]) == ("tls@acme.test", "tls-reports@mail.postern.test")
    text, attached = found.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    assert attached.get_filename() == report().file_name
    assert json.loads(gzip.decompress(attached.get_content()))["report-id"] == report().id
    assert carried.message_id != ReportMail(report(), "other@acme.test", NOW).message_id


def test_the_longest_names_stay_within_a_line():
    domain = ".".join(["a" * 60] * 4)
    carried = ReportMail(Report(Reporter("x", f"t@{domain}"), "2026-11-28", domain, ()), f"tls@{domain}", NOW)
    assert max(map(len, carried.message().split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (datetime(2026, 11, 29, 0, 14, tzinfo=UTC), None),
        (datetime(2026, 11, 29, 0, 15, tzinfo=UTC), "2026-11-28"),
        (datetime(2026, 11, 29, 23, 59, tzinfo=UTC), "2026-11-28"),
        (datetime(2027, 1, 1, 1, tzinfo=UTC), "2026-12-31"),
    ],
)
def test_a_day_is_reported_once_it_is_over_and_settled(now, day):
    assert day_to_report(now) == day


@given(st.floats(0, 1), st.integers(1, 10_000))
def test_reports_are_spread_and_tried_for_a_day_with_growing_pauses(chance, attempts):
    assert NOW <= first_attempt(NOW, chance=chance) <= NOW + timedelta(hours=4)
    again = next_attempt(NOW, attempts, NOW + TRIED, chance=chance)
    assert again is not None
    assert timedelta(minutes=10) < again - NOW < timedelta(hours=5)
    assert next_attempt(NOW, attempts, NOW + timedelta(minutes=5), chance=chance) is None


def test_contacts_that_no_header_can_hold_are_refused():
    base: dict[str, Any] = {"mongodb_uri": "mongodb://x", "amqp_url": "amqp://x"}
    assert DnsSettings(**base, dns_report_contact="tls@postern.test").dns_report_contact == "tls@postern.test"
    for contact in ("tls", "tls@postern.test\r\nBcc: x@y.test", "ä@postern.test", '"a b"@postern.test'):
        with pytest.raises(ValidationError):
            DnsSettings(**base, dns_report_contact=contact)
