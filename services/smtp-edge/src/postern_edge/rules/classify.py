"""The one place that decides whether a failed delivery is temporary or permanent (SPEC R3, R5).

What a server says with 5yz is permanent for the recipients it is said of; everything else that is not success, and
everything that is not understood, is temporary: trying again costs little, a wrong bounce costs the message.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LONGEST_REPLY: Final = 500
_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})\b")  # RFC 3463 2
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class Stage(StrEnum):
    """How far the dialogue with the next hop had come."""

    ROUTE = "route"
    CONNECT = "connect"
    GREETING = "greeting"
    TLS = "tls"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    END = "end"


class Outcome(StrEnum):
    """What came of an attempt for one recipient."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a next hop said, or what went wrong on the way to it (`code` 0). `text` is bounded and has no control
    characters.
    """

    stage: Stage
    code: int
    text: str
    permanent: bool = False  # for failures that we find ourselves, without asking the server

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip() if self.code else self.text


def answer(stage: Stage, code: int, text: str) -> Answer:
    """An answer whose text may be shown and stored: bounded, on one line, without control characters."""
    return Answer(stage, code, clean(text))


def clean(text: str) -> str:
    """A server's text without control characters and line ends, cut to a bound."""
    return _CONTROL.sub(" ", text[: 2 * LONGEST_REPLY]).strip()[:LONGEST_REPLY]


def outcome(given: Answer) -> Outcome:
    """Whether the recipients that `given` was said of are delivered, deferred or bounced."""
    if given.code == 0:
        return Outcome.BOUNCED if given.permanent else Outcome.DEFERRED
    if 200 <= given.code < 300:
        return Outcome.DELIVERED if given.stage is Stage.END else Outcome.DEFERRED
    if not 500 <= given.code < 600:
        return Outcome.DEFERRED
    if given.stage in {Stage.CONNECT, Stage.GREETING, Stage.TLS}:
        return Outcome.DEFERRED  # the server refuses us, not the message: another one, or a later time
    if given.code == 503:
        return Outcome.DEFERRED  # CASES 61: out of step with a reused connection; says nothing of the message
    if given.code == 552 and given.stage is Stage.RCPT and enhanced_code(given.text) is None:
        return Outcome.DEFERRED  # RFC 5321 4.5.3.1.10: an old way to say "too many recipients"
    return Outcome.BOUNCED


def is_servers_fault(given: Answer) -> bool:
    """Whether the next server of the site may do better: anything but a clear word on the message itself."""
    return outcome(given) is Outcome.DEFERRED


def enhanced_code(text: str) -> str | None:
    """The enhanced status code at the beginning of a reply's text (RFC 2034 4)."""
    match = _ENHANCED.match(text)
    return match[0] if match else None


def status(given: Answer) -> str:
    """The status code (RFC 3463) for a report on `given`: the server's own where it fits the reply, else a general
    one.
    """
    said = enhanced_code(given.text)
    outcome_class = "2" if outcome(given) is Outcome.DELIVERED else "5" if outcome(given) is Outcome.BOUNCED else "4"
    if said is not None and said[0] == outcome_class:
        return said
    detail = {
        Stage.ROUTE: "4.4",
        Stage.CONNECT: "4.1",
        Stage.GREETING: "4.2",
        Stage.TLS: "7.5",
        Stage.MAIL: "1.8" if given.code in {550, 553} else "0.0",
        Stage.RCPT: "1.1" if given.code == 550 else "0.0",
    }.get(given.stage, "0.0")
    return f"{outcome_class}.{'0.0' if outcome_class == '2' else detail}"
