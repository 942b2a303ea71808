"""A report about TLS towards one domain on one day (RFC 8460): its JSON, its file, and the mail that carries it."""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from email.utils import format_datetime
from typing import Any, Final

MEDIA_TYPE: Final = "application/tlsrpt+gzip"  # RFC 8460 6.5
DAY: Final = timedelta(days=1)
_DETAILS: Final = (
    ("result-type", "result_type"),
    ("sending-mta-ip", "sending_mta_ip"),
    ("receiving-mx-hostname", "receiving_mx_hostname"),
    ("receiving-ip", "receiving_ip"),
    ("failure-reason-code", "failure_reason_code"),
)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: the organisation's name, and the address that questions go to, in ASCII."""

    organization: str
    contact: str

    @property
    def submitter(self) -> str:
        """The domain that reports come from."""
        return self.contact.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a day (as `2026-11-28`) about a domain; `results` are its stored documents (`TlsResultDocument`).

    Made twice it is the same, so that a receiver that got it twice can tell by its id.
    """

    reporter: Reporter
    day: str
    policy_domain: str
    results: Sequence[Mapping[str, Any]]

    @property
    def id(self) -> str:
        """Names this report, as a msg-id without its brackets."""
        return f"{self.day}.{self._digest}@{self.reporter.submitter}"

    @property
    def _digest(self) -> str:
        return hashlib.sha256(f"{self.day}|{self.policy_domain}|{self.reporter.submitter}".encode()).hexdigest()[:16]

    @property
    def _begin(self) -> datetime:
        return datetime.combine(date.fromisoformat(self.day), time(), UTC)

    @property
    def _end(self) -> datetime:
        return self._begin + DAY - timedelta(seconds=1)

    @property
    def file_name(self) -> str:
        """RFC 8460 5.1."""
        begin, end = int(self._begin.timestamp()), int(self._end.timestamp())
        return f"{self.reporter.submitter}!{self.policy_domain}!{begin}!{end}!{self._digest}.json.gz"

    def document(self) -> dict[str, Any]:
        """The report as RFC 8460 4.4 has it."""
        ordered = sorted(self.results, key=lambda result: (result["policy_type"], result["policy_key"]))
        return {
            "organization-name": self.reporter.organization,
            "date-range": {"start-datetime": _stamp(self._begin), "end-datetime": _stamp(self._end)},
            "contact-info": self.reporter.contact,
            "report-id": self.id,
            "policies": [_policy(result) for result in ordered],
        }

    def file(self) -> bytes:
        """The report as it is sent, compressed; the same for the same results."""
        return gzip.compress(json.dumps(self.document(), ensure_ascii=False).encode(), mtime=0)


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _policy(result: Mapping[str, Any]) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": result["policy_type"], "policy-domain": result["policy_domain"]}
    if result["policy_string"]:
        policy["policy-string"] = list(result["policy_string"])
    if result["mx_host"]:
        policy["mx-host"] = list(result["mx_host"])
    failures = [failure for failure in result["failures"].values() if failure["count"]]
    counted: dict[str, Any] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": result["successes"],
            "total-failure-session-count": sum(failure["count"] for failure in failures),
        },
    }
    if failures:
        counted["failure-details"] = [_failure(failure) for failure in failures]
    return counted


def _failure(failure: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: failure[field] for name, field in _DETAILS if failure[field]}
    return {**known, "failed-session-count": failure["count"]}


@dataclass(frozen=True, slots=True)
class ReportMail:
    """The report as a mail to `recipient` (RFC 8460 5.3), in ASCII."""

    report: Report
    recipient: str
    now: datetime

    @property
    def subject(self) -> str:
        """RFC 8460 5.3, on one line."""
        return " ".join(self._subject_parts())

    def _subject_parts(self) -> tuple[str, str, str]:
        report = self.report
        return (
            f"Report Domain: {report.policy_domain}",
            f"Submitter: {report.reporter.submitter}",
            f"Report-ID: <{report.id}>",
        )

    @property
    def message_id(self) -> str:
        """The same for the same report and recipient."""
        digest = hashlib.sha256(f"{self.report.id}|{self.recipient}".encode()).hexdigest()[:32]
        return f"<{digest}@{self.report.reporter.submitter}>"

    def message(self) -> bytes:
        """The whole message: multipart/report with a text for people and the compressed report."""
        report = self.report
        boundary = f"=_{hashlib.sha256(self.message_id.encode()).hexdigest()[:32]}"
        head = [
            f"From: <{report.reporter.contact}>",
            f"To: <{self.recipient}>",
            "Subject: " + "\r\n ".join(self._subject_parts()),
            f"Date: {format_datetime(self.now)}",
            f"Message-ID: {self.message_id}",
            f"TLS-Report-Domain: {report.policy_domain}",
            f"TLS-Report-Submitter: {report.reporter.submitter}",
            "Auto-Submitted: auto-generated",  # RFC 3834 5
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type="tlsrpt";\r\n\tboundary="{boundary}"',
        ]
        text = [
            "Content-Type: text/plain; charset=us-ascii",
            "",
            f"This is an aggregate report about TLS on the way to {report.policy_domain} on {report.day} (UTC),",
            f"from {report.reporter.submitter}. The report is attached (RFC 8460).",
            f"Questions go to {report.reporter.contact}.",
        ]
        attached = [
            f"Content-Type: {MEDIA_TYPE}",
            "Content-Transfer-Encoding: base64",
            f'Content-Disposition: attachment;\r\n\tfilename="{report.file_name}"',
            "",
            base64.encodebytes(report.file()).decode("ascii").rstrip("\n").replace("\n", "\r\n"),
        ]
        parts = [f"--{boundary}\r\n" + "\r\n".join(part) + "\r\n" for part in (text, attached)]
        return ("\r\n".join(head) + "\r\n\r\n" + "".join(parts) + f"--{boundary}--\r\n").encode("ascii")
