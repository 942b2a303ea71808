"""MTA-STS as a sender keeps it (RFC 8461): the policy's text, which hosts it names, how long it holds."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from postern_common.mta_sts import MAX_MAX_AGE, Mode, is_sts_record, record_id

MOST_PATTERNS: Final = 100
FRESH: Final = timedelta(days=1)  # a kept policy is fetched again each day, long before it ends (RFC 8461 3.3)
SHORTEST: Final = timedelta(minutes=5)  # even a policy that may not be kept holds for those who waited for its fetch

_FIELDS: Final = frozenset({"version", "mode", "mx", "max_age"})
_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):(.*)")
_PATTERN: Final = re.compile(r"(?:\*\.)?(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)*(?!-)[a-z0-9-]{1,63}(?<!-)")
_SECONDS: Final = re.compile(r"[0-9]{1,10}")


class Malformed(Exception):
    """The text is no policy; says which line or field is wrong, never what it holds."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A domain's policy. `mx` in lower case; `lines` are those of its text that count, as they were served."""

    mode: Mode
    mx: tuple[str, ...]
    max_age_seconds: int
    lines: tuple[str, ...]

    def names(self, host: str) -> bool:
        """Whether a mail exchanger is one of the policy's; `*` stands for one whole first label (RFC 8461 4.1)."""
        name = host.rstrip(".").lower()
        parent = name.partition(".")[2]
        return name in self.mx or (bool(parent) and f"*.{parent}" in self.mx)


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """A policy as it was fetched, with the id of the record that announced it."""

    policy: StsPolicy
    policy_id: str
    fetched_at: datetime

    @property
    def expires_at(self) -> datetime:
        """Until when it holds, whatever becomes of the record and of its server (RFC 8461 3.3, 5.1)."""
        return self.fetched_at + self._age

    @property
    def _age(self) -> timedelta:
        return max(timedelta(seconds=self.policy.max_age_seconds), SHORTEST)

    def holds(self, now: datetime) -> bool:
        """Whether it is in force."""
        return now < self.expires_at

    def wants_refreshing(self, announced: str | None, now: datetime) -> bool:
        """Whether to fetch it again: another id is announced, or it has grown old."""
        if announced is not None and announced != self.policy_id:
            return True
        return now - self.fetched_at >= min(FRESH, self._age / 2)


def announced_id(records: Iterable[str]) -> str | None:
    """The id in a domain's TXT records, or None where there is not exactly one of MTA-STS and that one well formed
    (RFC 8461 3.1).
    """
    found = [record for record in records if is_sts_record(record)]
    return record_id(found[0]) if len(found) == 1 else None


def parse_policy(text: str) -> StsPolicy:
    """Read a policy (RFC 8461 3.2). Unknown fields are passed over, and of a repeated one all but the first, save `mx`.

    Raises `Malformed`.
    """
    fields: dict[str, str] = {}
    patterns: list[str] = []
    lines: list[str] = []
    for number, line in enumerate((line.removesuffix("\r") for line in text.split("\n")), 1):
        if not line.strip(" \t"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"line {number} is no field")
        value = match[2].strip(" \t")
        if match[1] in _FIELDS and match[1] not in fields:
            lines.append(line)
        if match[1] == "mx":
            patterns.append(_pattern(value, number))
        else:
            fields.setdefault(match[1], value)
    if fields.get("version") != "STSv1":
        raise Malformed("the version is not STSv1")
    mode = _mode(fields.get("mode"))
    if mode != "none" and not patterns:
        raise Malformed("there is no mx")
    if len(patterns) > MOST_PATTERNS:
        raise Malformed(f"there are more than {MOST_PATTERNS} mx")
    return StsPolicy(mode, tuple(dict.fromkeys(patterns)), _age(fields.get("max_age")), tuple(lines))


def _pattern(value: str, number: int) -> str:
    pattern = value.lower().removesuffix(".")
    if len(pattern) > 255 or not _PATTERN.fullmatch(pattern):
        raise Malformed(f"line {number} is no mail exchanger")
    return pattern


def _mode(value: str | None) -> Mode:
    if value == "enforce":
        return "enforce"
    if value == "testing":
        return "testing"
    if value == "none":
        return "none"
    raise Malformed("the mode is none of enforce, testing, none")


def _age(value: str | None) -> int:
    if value is None or not _SECONDS.fullmatch(value):
        raise Malformed("max_age is no number of seconds")
    return min(int(value), MAX_MAX_AGE)
