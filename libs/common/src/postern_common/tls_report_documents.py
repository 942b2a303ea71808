"""Stored documents of reports about TLS, which are sent to the domains that ask for them (SPEC R11, RFC 8460)."""

from datetime import datetime
from typing import Literal, TypedDict

ReportOutcome = Literal["sent", "not_wanted", "given_up"]


class ReportDestination(TypedDict):
    """Where a report goes: `open` until it was handed over there or never will be; `detail` says what happened last."""

    uri: str
    state: Literal["open", "sent", "failed"]
    detail: str


class TlsReportDocument(TypedDict):
    """The report about one domain and one day. Owner: dns-verifier.

    `_id` is `<day>|<policy_domain>`. It waits until `due_at`, is tried again until `give_up_at`, and is done with an
    `outcome`; `destinations` are known once the domain was asked. `lease_owner` and `lease_until` keep two senders off
    one report. Gone at `expires_at`. A document whose `_id` is the day alone, with the state `planned`, tells that the
    day's reports are all there.
    """

    _id: str
    day: str
    policy_domain: str
    state: Literal["waiting", "done"]
    outcome: ReportOutcome | None
    due_at: datetime
    give_up_at: datetime
    attempts: int
    destinations: list[ReportDestination]
    lease_owner: str | None
    lease_until: datetime | None
    expires_at: datetime
