"""What a domain's owner reads after a look at the ownership record: who was asked, what was found, what to do.

Plain words, whole sentences, no internals: name servers belong to the domain and are named, our own resolver is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from postern_dns.rules.answers import RESOLVER, Answer, Look, Status

MAX_NAMED: Final = 4
MAX_QUOTED: Final = 3
MAX_QUOTED_CHARACTERS: Final = 100

_TROUBLE: Final[dict[Status, str]] = {
    Status.SERVFAIL: "answered SERVFAIL, as it happens when a zone is broken or its DNSSEC does not validate",
    Status.REFUSED: "refused to answer, as it happens when the zone is not set up there",
    Status.LAME: "answered that they are not responsible for it",
    Status.TIMEOUT: "did not answer in time",
    Status.UNREACHABLE: "could not be reached",
    Status.FORBIDDEN: "are at addresses that are not public, so they were not asked",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the texts are made of. `shown` counts the servers that show the record at the domain and at the label."""

    domain: str
    label: str
    expected: str
    apex: Look
    challenge: Look
    shown: tuple[int, ...]
    doubled: str | None
    now: datetime


def explain(reason: str, facts: Facts) -> str:
    """The explanation of `reason` for the domain's owner."""
    return _TEXTS[reason](facts) + _cache_note(facts)


def typed_host(name: str, zone: str | None) -> str:
    """What to type as host into a provider's form for `zone`, which appends the zone by itself."""
    if zone is None or name == zone:
        return "@" if name == zone else name
    return name.removesuffix("." + zone)


def _verified(facts: Facts) -> str:
    look, count = _best(facts)
    return f"The record was found at {look.name}, on {count} of {len(look.counted)} name servers asked.{_alias(facts)}"


def _no_txt(facts: Facts) -> str:
    return f"{_asked(facts)} Neither name has a TXT record.{_alias(facts)} {_expected(facts)} {_hint(facts)}"


def _no_match(facts: Facts) -> str:
    found = tuple(dict.fromkeys((*facts.challenge.records(), *facts.apex.records())))
    what = f"Found {_quoted(found)}, but not the expected value.{_alias(facts)}"
    return f"{_asked(facts)} {what} {_expected(facts)} {_hint(facts)}"


def _nxdomain(facts: Facts) -> str:
    return (
        f"{_asked(facts)} They say that {facts.domain} does not exist. Check the spelling, and that the domain is "
        f"registered and delegated to your name servers. {_expected(facts)}"
    )


def _trouble(facts: Facts) -> str:
    look = facts.challenge if facts.apex.is_definite else facts.apex
    return (
        f"{_asked(facts)} {_failing(look)} {_TROUBLE.get(look.failure, 'did not answer')}. So nobody can tell whether "
        f"the record is published; it is looked up again by itself. {_expected(facts)}"
    )


def _cname(facts: Facts) -> str:
    target = _target(facts.apex)
    if target is None:
        return (
            f"{_asked(facts)} {facts.label} is a CNAME whose chain does not end at a TXT record. {_expected(facts)} "
            f"Publish the TXT record itself at {facts.label}."
        )
    return (
        f"{_asked(facts)} {facts.domain} is a CNAME to {target}, and no other record can live beside a CNAME. Publish "
        f"the TXT record at {facts.label} instead. {_hint(facts)} {_expected(facts)}"
    )


def _doubled(facts: Facts) -> str:
    return (
        f"The record was found at {facts.doubled}: you pasted the full name, and your provider appended the zone. "
        f"{_hint(facts)} {_expected(facts)}"
    )


def _partial(facts: Facts) -> str:
    look, count = _best(facts)
    return (
        f"The record at {look.name} is shown by {count} of {len(look.counted)} name servers so far; most of them must "
        "show it. It is looked up again by itself while the others catch up."
    )


_TEXTS: Final[dict[str, Callable[[Facts], str]]] = {
    "verified": _verified,
    "no_txt": _no_txt,
    "txt_present_no_match": _no_match,
    "nxdomain": _nxdomain,
    "servfail_or_dnssec_bogus": _trouble,
    "refused": _trouble,
    "timeout": _trouble,
    "cname_at_name": _cname,
    "found_at_doubled_name": _doubled,
    "partial_propagation": _partial,
}


def _asked(facts: Facts) -> str:
    servers = tuple(dict.fromkeys(answer.server for look in (facts.apex, facts.challenge) for answer in look.answers))
    named = [f"{server.name} ({server.address})" if server.address else f"the {server.name}" for server in servers]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    who = ", ".join(named[:MAX_NAMED]) + more if named else "the name servers"
    return f"Asked {who} for the TXT records of {facts.domain} and {facts.label}."


def _failing(look: Look) -> str:
    failing = [answer for answer in look.counted if answer.status is look.failure]
    if any(answer.server == RESOLVER for answer in failing):
        return "The name servers"
    if not failing:
        return "The name servers that a CNAME leads to"
    return f"{len(failing)} of {len(look.counted)} name servers"


def _expected(facts: Facts) -> str:
    return f"Expected {facts.expected} at either name."


def _hint(facts: Facts) -> str:
    zone = facts.apex.zone
    if zone is None or not (facts.label.endswith("." + zone)):
        return f"Add it as a TXT record of {facts.label}."
    return f"In the form of the zone {zone}, the host to type is {typed_host(facts.label, zone)}."


def _quoted(values: tuple[str, ...]) -> str:
    shown = [f"“{_shortened(value)}”" for value in values[:MAX_QUOTED]]
    more = f" and {len(values) - MAX_QUOTED} more" if len(values) > MAX_QUOTED else ""
    return ", ".join(shown) + more


def _shortened(value: str) -> str:
    return value if len(value) <= MAX_QUOTED_CHARACTERS else value[:MAX_QUOTED_CHARACTERS] + "…"


def _best(facts: Facts) -> tuple[Look, int]:
    """The name at which most servers show the record, and how many they are."""
    return max(zip((facts.challenge, facts.apex), reversed(facts.shown), strict=True), key=lambda pair: pair[1])


def _alias(facts: Facts) -> str:
    target = _target(facts.challenge)
    return f" ({facts.label} is a CNAME to {target}, which was followed.)" if target else ""


def _target(look: Look) -> str | None:
    aliases: tuple[Answer, ...] = tuple(answer for answer in look.answers if answer.target is not None)
    return aliases[0].target if aliases else None


def _cache_note(facts: Facts) -> str:
    kept = [look.cached_for for look in (facts.apex, facts.challenge) if look.cached_for is not None]
    if not kept:
        return ""
    until = facts.now + max(kept)
    return (
        " No name server of the zone could be asked directly, so this answer came through a resolver and may be cached "
        f"until {until:%H:%M} UTC ({until:%Y-%m-%d}); a newer record may be seen only then."
    )
