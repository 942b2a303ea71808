"""What name servers said, as plain values: the language between the resolver and the rules.

A `Look` is one name asked of every server of its zone. A server that says CNAME carries the look at the target, so that
a rule judges a server by what it leads to. Records are text: a TXT record's joined strings, an MX record as
`10 mail.example`.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """How one server answered one question."""

    RECORDS = "records"
    NO_DATA = "no_data"
    NXDOMAIN = "nxdomain"
    CNAME = "cname"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    LAME = "lame"
    TIMEOUT = "timeout"
    FORBIDDEN = "forbidden"
    UNREACHABLE = "unreachable"


DEFINITIVE: Final = frozenset({Status.RECORDS, Status.NO_DATA, Status.NXDOMAIN, Status.CNAME})
NOT_ASKED: Final = frozenset({Status.FORBIDDEN, Status.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Server:
    """A name server. The operator's own resolver has no address here, since that is nobody else's business."""

    name: str
    address: str


RESOLVER: Final = Server("configured resolver", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """One server's answer. `target` is where a CNAME points, `followed` what was found there, if it was followed."""

    server: Server
    status: Status
    records: tuple[str, ...] = ()
    target: str | None = None
    followed: "Look | None" = None


@dataclass(frozen=True, slots=True)
class Look:
    """One name asked of all servers of `zone`; with `cached_for` the answer is a resolver's and may be that old."""

    name: str
    zone: str | None
    answers: tuple[Answer, ...]
    cached_for: timedelta | None = None

    @property
    def counted(self) -> tuple[Answer, ...]:
        """The answers of servers that could be asked, or all of them where none could."""
        return tuple(answer for answer in self.answers if answer.status not in NOT_ASKED) or self.answers

    @property
    def voters(self) -> tuple[Answer, ...]:
        """The answers that say something definite."""
        return tuple(answer for answer in self.counted if is_definite(answer))

    @property
    def is_definite(self) -> bool:
        """True if at least half of the servers that could be asked said something definite."""
        return 0 < len(self.counted) <= 2 * len(self.voters)

    @property
    def failure(self) -> Status:
        """The most frequent way in which servers failed to answer."""
        failures = Counter(_failure(answer) for answer in self.counted if not is_definite(answer))
        return failures.most_common(1)[0][0] if failures else Status.TIMEOUT

    def records(self) -> tuple[str, ...]:
        """All records that any server showed, each once, those behind CNAMEs included."""
        found: dict[str, None] = {}
        for answer in self.answers:
            found |= dict.fromkeys(answer.records)
            if answer.followed is not None:
                found |= dict.fromkeys(answer.followed.records())
        return tuple(found)

    def agreed(self) -> tuple[str, ...]:
        """The records that most servers show, in order; a definite answer without records counts as none."""
        if not self.voters:
            return ()
        return Counter(_final_records(answer) for answer in self.voters).most_common(1)[0][0]


def is_definite(answer: Answer) -> bool:
    """True if the server's answer, or what its CNAME leads to, tells what is published."""
    if answer.followed is not None:
        return answer.followed.is_definite
    return answer.status in DEFINITIVE


def is_open_alias(answer: Answer) -> bool:
    """True for a CNAME that was not followed, or whose chain does not end."""
    if answer.followed is not None:
        return any(is_open_alias(inner) for inner in answer.followed.voters)
    return answer.status is Status.CNAME


def _failure(answer: Answer) -> Status:
    return answer.followed.failure if answer.followed is not None else answer.status


def _final_records(answer: Answer) -> tuple[str, ...]:
    records = answer.followed.agreed() if answer.followed is not None else answer.records
    return tuple(sorted(records))
