"""Whether a domain's owner has published our code, judged from what all name servers said (SPEC D1 to D3, D6).

The expected TXT value is `postern-verification=<code>`, at the domain itself or at `_postern-challenge.<domain>`. A
wildcard may answer at either name: that proves nothing wrong, because a code belongs to one customer and one domain. A
record counts as published once most of the servers that can tell show it; at least half of the servers must be able to.
A CNAME at the challenge label is followed; one at the domain itself is not, since its target is often a provider that
many customers share. SERVFAIL, timeouts and refusals are never read as absence.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from postern_common.documents import CheckedServer
from postern_dns.rules import wording
from postern_dns.rules.answers import Answer, Look, Server, Status, is_definite, is_open_alias

CHALLENGE_LABEL: Final = "_postern-challenge"
VALUE_PREFIX: Final = "postern-verification="
MAX_FOUND: Final = 50
MAX_FOUND_CHARACTERS: Final = 512

Outcome = Literal["match", "mismatch", "absent", "cannot_tell"]
Reason = Literal[
    "verified",
    "no_txt",
    "txt_present_no_match",
    "nxdomain",
    "servfail_or_dnssec_bogus",
    "refused",
    "timeout",
    "cname_at_name",
    "found_at_doubled_name",
    "partial_propagation",
]

_OUTCOMES: Final[dict[Reason, Outcome]] = {
    "verified": "match",
    "no_txt": "absent",
    "nxdomain": "absent",
    "txt_present_no_match": "mismatch",
    "found_at_doubled_name": "mismatch",
}
_STATUS_REASONS: Final[dict[Status, Reason]] = {
    Status.RECORDS: "txt_present_no_match",
    Status.NO_DATA: "no_txt",
    Status.NXDOMAIN: "nxdomain",
    Status.CNAME: "cname_at_name",
    Status.SERVFAIL: "servfail_or_dnssec_bogus",
    Status.REFUSED: "refused",
    Status.LAME: "refused",
    Status.FORBIDDEN: "refused",
    Status.TIMEOUT: "timeout",
    Status.UNREACHABLE: "timeout",
}
# A server is asked for two names; the row shown for it is the one that says most.
_TELLING: Final[tuple[Reason, ...]] = (
    "verified",
    "txt_present_no_match",
    "cname_at_name",
    "servfail_or_dnssec_bogus",
    "refused",
    "timeout",
    "no_txt",
    "nxdomain",
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was asked about a domain: both names, and the names that a form makes of a host pasted whole."""

    domain: str
    apex: Look
    label: Look
    doubled: tuple[Look, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says about one code."""

    outcome: Outcome
    reason: Reason
    explanation: str
    servers: tuple[CheckedServer, ...]
    found: tuple[str, ...]


def expected_value(code: str) -> str:
    """The TXT value that proves the domain."""
    return VALUE_PREFIX + code


def challenge_name(domain: str) -> str:
    """The underscore name that may carry the record instead of the domain itself."""
    return f"{CHALLENGE_LABEL}.{domain}"


def doubled_names(domain: str, zone: str | None) -> tuple[str, ...]:
    """The names where the record ends up if a form appends the zone to a host that was pasted whole (CASES 27)."""
    if zone is None:
        return ()
    names = (f"{domain}.{zone}", f"{challenge_name(domain)}.{zone}")
    return tuple(name for name in names if len(name) <= 253)


def text_of(strings: tuple[bytes, ...]) -> str:
    """A TXT record as one text: its strings joined without blanks (RFC 7208 3.3), what cannot be shown escaped."""
    text = b"".join(strings).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() or char == "\t" else f"\\x{ord(char):02x}" for char in text)


def matches(record: str, code: str) -> bool:
    """True if `record` is the expected value, save surrounding blanks and one pair of outer quotes (SPEC D6)."""
    value = record.strip(" \t")
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1].strip(" \t")
    return hmac.compare_digest(value.encode("utf-8", "surrogatepass"), expected_value(code).encode("ascii"))


def judge(evidence: Evidence, code: str, *, now: datetime) -> Verdict:
    """What all answers together say about `code`."""
    reason = _reason(evidence, code)
    words = wording.Facts(
        domain=evidence.domain,
        label=challenge_name(evidence.domain),
        expected=expected_value(code),
        apex=evidence.apex,
        challenge=evidence.label,
        shown=tuple(_shown_count(look, code) for look in (evidence.apex, evidence.label)),
        doubled=next((look.name for look in evidence.doubled if _shown_count(look, code)), None),
        now=now,
    )
    looks = (evidence.apex, evidence.label, *(look for look in evidence.doubled if _shown_count(look, code)))
    return Verdict(
        outcome=_OUTCOMES.get(reason, "cannot_tell"),
        reason=reason,
        explanation=wording.explain(reason, words),
        servers=_servers(evidence, code),
        found=_found(looks),
    )


def needs_doubled_look(evidence: Evidence, code: str) -> bool:
    """True if the record is at neither name, so that a look at the doubled names may explain why."""
    return not any(_shown_count(look, code) for look in (evidence.apex, evidence.label))


def _reason(evidence: Evidence, code: str) -> Reason:
    both = (evidence.apex, evidence.label)
    if any(_is_published(look, code) for look in both):
        return "verified"
    if any(_shown_count(look, code) for look in both):
        return "partial_propagation"
    if any(_shown_count(look, code) for look in evidence.doubled):
        return "found_at_doubled_name"
    for look in both:
        if not look.is_definite:
            return _STATUS_REASONS[look.failure]
    if any(look.records() for look in both):
        return "txt_present_no_match"
    if any(is_open_alias(answer) for look in both for answer in look.voters):
        return "cname_at_name"
    if all(answer.status is Status.NXDOMAIN for answer in evidence.apex.voters):
        return "nxdomain"
    return "no_txt"


def _is_published(look: Look, code: str) -> bool:
    return look.is_definite and 2 * _shown_count(look, code) > len(look.voters)


def _shown_count(look: Look, code: str) -> int:
    return sum(_shows(answer, code) for answer in look.voters)


def _shows(answer: Answer, code: str) -> bool:
    if answer.followed is not None:
        return _is_published(answer.followed, code)
    # Every record is compared, so that the time taken tells nothing about where a match stands.
    return sum([matches(record, code) for record in answer.records]) > 0


def _servers(evidence: Evidence, code: str) -> tuple[CheckedServer, ...]:
    reasons: dict[Server, list[Reason]] = {}
    for look in (evidence.apex, evidence.label):
        for answer in look.answers:
            reasons.setdefault(answer.server, []).append(_answer_reason(answer, code))
    return tuple(
        {"name": server.name, "address": server.address, "reason": min(given, key=_TELLING.index)}
        for server, given in reasons.items()
    )


def _answer_reason(answer: Answer, code: str) -> Reason:
    if _shows(answer, code):
        return "verified"
    if answer.followed is None:
        return _STATUS_REASONS[answer.status]
    if not is_definite(answer):
        return _STATUS_REASONS[answer.followed.failure]
    return "txt_present_no_match" if answer.followed.records() else "no_txt"


def _found(looks: tuple[Look, ...]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for look in looks:
        found |= dict.fromkeys(record[:MAX_FOUND_CHARACTERS] for record in look.records())
    return tuple(found)[:MAX_FOUND]
