"""Sums of TLS results, as they are added to the stored ones (RFC 8460 4.2 to 4.4).

What a peer can make up is bounded: so many documents between two writes, so many kinds of failure in a document. Past
that, failures are counted by their type alone, and sessions under policies that nobody has room for not at all.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from postern_common.tls_result_documents import MOST_FAILURES, TlsFailureDocument
from postern_edge.rules.tls_policy import Reported, TlsFault

MOST_SUMS: Final = 20_000
LONGEST_TEXT: Final = 255

Key = tuple[str, Reported]  # the day, and under what
Failure = tuple[TlsFault, str, str, str]  # this side's address, the server's name, its address


@dataclass(slots=True)
class Sum:
    """The sessions of one day under one policy."""

    successes: int = 0
    failures: dict[Failure, int] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """All sums since the last write."""

    sums: dict[Key, Sum] = field(default_factory=dict)

    def add(self, now: datetime, reported: Reported, fault: TlsFault | None, host: str, ends: tuple[str, str]) -> bool:
        """Count a session; False where there is no room."""
        key = day_of(now), reported
        total = self.sums.get(key)
        if total is None:
            if len(self.sums) >= MOST_SUMS:
                return False
            total = self.sums[key] = Sum()
        if fault is None:
            total.successes += 1
            return True
        failure = fault, ends[0], host[:LONGEST_TEXT], ends[1]
        if failure not in total.failures and len(total.failures) >= MOST_FAILURES:
            failure = _of_type_alone(fault)
        total.failures[failure] = total.failures.get(failure, 0) + 1
        return True

    def merge(self, other: "Tally") -> int:
        """Take back sums that could not be written; for how many there was no room."""
        dropped = 0
        for key, one in other.sums.items():
            if key not in self.sums and len(self.sums) >= MOST_SUMS:
                dropped += 1
                continue
            total = self.sums.setdefault(key, Sum())
            total.successes += one.successes
            for failure, count in one.failures.items():
                total.failures[failure] = total.failures.get(failure, 0) + count
        return dropped


def day_of(now: datetime) -> str:
    """The day that a session belongs to (RFC 8460 4.2: UTC)."""
    return f"{now.astimezone(UTC):%Y-%m-%d}"


def document_id(key: Key) -> str:
    """The id of the document that a sum is added to."""
    day, reported = key
    return f"{day}|{reported.policy_domain}|{reported.policy_type}|{policy_key(reported)}"


def policy_key(reported: Reported) -> str:
    """A digest that tells a policy from others of its domain."""
    return sha256("\n".join(reported.policy_string).encode()).hexdigest()[:32]


def details(
    failures: Mapping[Failure, int], stored: Collection[str], most: int = MOST_FAILURES
) -> dict[str, TlsFailureDocument]:
    """Failures as they are stored, by their keys; those for which a document has no room are put together by type."""
    known = set(stored)
    found: dict[str, TlsFailureDocument] = {}
    for failure, count in failures.items():
        kept = failure if _key_of(failure) in known or len(known) < most else _of_type_alone(failure[0])
        key = _key_of(kept)
        known.add(key)
        if key in found:
            found[key]["count"] += count
        else:
            found[key] = _document(kept, count)
    return found


def _of_type_alone(fault: TlsFault) -> Failure:
    return TlsFault(fault.result_type, ""), "", "", ""


def _key_of(failure: Failure) -> str:
    fault, here, host, there = failure
    return sha256(f"{fault.result_type}|{fault.reason_code}|{here}|{host}|{there}".encode()).hexdigest()[:24]


def _document(failure: Failure, count: int) -> TlsFailureDocument:
    fault, here, host, there = failure
    return {
        "result_type": fault.result_type,
        "sending_mta_ip": here,
        "receiving_mx_hostname": host,
        "receiving_ip": there,
        "failure_reason_code": fault.reason_code,
        "count": count,
    }
