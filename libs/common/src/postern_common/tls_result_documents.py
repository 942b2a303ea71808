"""Stored documents of TLS towards receiving domains (SPEC R11): what came of it, and policies that domains publish.

Results are counted as RFC 8460 wants them reported, so that a report is made of the documents of one day and domain
without another look at any message. Edges count in memory and add to these documents every few seconds: what a process
counted since it last did is lost with it when it is killed, and nothing else.
"""

from datetime import datetime, timedelta
from typing import Final, Literal, TypedDict

PolicyType = Literal["tlsa", "sts", "no-policy-found"]  # RFC 8460 4.4, policy-type
ResultType = Literal[  # RFC 8460 4.3
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]

TLS_RESULTS_KEPT: Final = timedelta(days=10)  # after the day's begin; a report that fails is repeated for one day
MOST_FAILURES: Final = 100  # told apart in one document; the rest is counted by result type alone


class TlsFailureDocument(TypedDict):
    """Sessions that failed alike (RFC 8460 4.4, failure-details). What is not known is an empty text."""

    result_type: ResultType
    sending_mta_ip: str
    receiving_mx_hostname: str
    receiving_ip: str
    failure_reason_code: str
    count: int


class TlsResultDocument(TypedDict):
    """The sessions to one receiving domain under one policy on one day. Owner: smtp-edge; reports read.

    `_id` is `<day>|<policy_domain>|<policy_type>|<policy_key>`. `day` is that of UTC, as `2026-11-28`; `policy_domain`
    is the domain of the recipients, in lower case and as A-labels. `policy_key` is a digest of `policy_string`, which
    holds the lines of an MTA-STS policy, or TLSA records as text, and is empty with `no-policy-found`; a policy that
    changes within a day makes a second document. `mx_host` are the patterns of an MTA-STS policy. `failures` by a
    digest of what is told apart, at most about `MOST_FAILURES` of them. Gone at `expires_at`.

    A session counts once under the policy that it was judged by; that an MTA-STS policy could not be had at all counts
    as a failure under `sts` with an empty `policy_string`, once for each session that would have been judged by it.
    """

    _id: str
    day: str
    policy_domain: str
    policy_type: PolicyType
    policy_key: str
    policy_string: list[str]
    mx_host: list[str]
    successes: int
    failures: dict[str, TlsFailureDocument]
    expires_at: datetime


class StsPolicyDocument(TypedDict):
    """A domain's MTA-STS policy as it was last fetched (RFC 8461 3.3). Owner: smtp-edge; all edges share it.

    `_id` is the domain. `policy_id` is the id of the TXT record that led to it. In force until `expires_at`, which is
    `fetched_at` and the policy's `max_age`; a fetch that fails changes nothing.
    """

    _id: str
    policy_id: str
    mode: Literal["none", "testing", "enforce"]
    mx: list[str]
    max_age_seconds: int
    lines: list[str]
    fetched_at: datetime
    expires_at: datetime
