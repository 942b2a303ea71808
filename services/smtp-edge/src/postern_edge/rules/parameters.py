"""Parameters of MAIL and RCPT: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET, ENVID, NOTIFY, ORCPT
(RFC 3461).
"""

import re
from dataclasses import dataclass
from typing import Final

_KEYWORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")  # RFC 5321 4.1.2 esmtp-keyword
_VALUE: Final = re.compile(r"[!-<>-~\x80-\U0010ffff]+")  # RFC 5321 4.1.2 esmtp-value, RFC 6531 3.3
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 3461 4
_UTF8_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~\x80-\U0010ffff]|\\x\{[0-9A-F]{2,6}\}|\+[0-9A-F]{2})+")  # RFC 6533 3
_NOTIFY: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})
MAX_ENVID: Final = 100  # RFC 3461 4.4
MAX_ORCPT: Final = 500  # RFC 3461 4.2


class UnknownParameter(Exception):
    """The keyword is of no extension that we offer (RFC 5321 4.1.1.11: 555)."""


class BadParameter(Exception):
    """The value is malformed, or the parameter stands twice (501)."""


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL FROM said besides the sender."""

    size: int | None = None
    body_type: str = "7BIT"
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What RCPT TO said besides the recipient."""

    notify: tuple[str, ...] = ()
    orcpt: str | None = None


NO_MAIL_PARAMETERS: Final = MailParameters()
NO_RCPT_PARAMETERS: Final = RcptParameters()


def parse_mail_parameters(text: str) -> MailParameters:
    """Parse what follows the reverse path."""
    if not text:
        return NO_MAIL_PARAMETERS
    given = _pairs(text)
    result = MailParameters(
        size=_size(given.pop("SIZE")) if "SIZE" in given else None,
        body_type=_one_of(given.pop("BODY"), "7BIT", "8BITMIME") if "BODY" in given else "7BIT",
        smtputf8=_flag(given.pop("SMTPUTF8")) if "SMTPUTF8" in given else False,
        ret=_one_of(given.pop("RET"), "FULL", "HDRS") if "RET" in given else None,
        envid=_xtext(given.pop("ENVID"), MAX_ENVID) if "ENVID" in given else None,
    )
    if given:
        raise UnknownParameter
    return result


def parse_rcpt_parameters(text: str) -> RcptParameters:
    """Parse what follows the forward path."""
    if not text:
        return NO_RCPT_PARAMETERS
    given = _pairs(text)
    result = RcptParameters(
        notify=_notify(given.pop("NOTIFY")) if "NOTIFY" in given else (),
        orcpt=_orcpt(given.pop("ORCPT")) if "ORCPT" in given else None,
    )
    if given:
        raise UnknownParameter
    return result


def _pairs(text: str) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for word in text.split(" "):
        if not word:
            continue
        keyword, equals, value = word.partition("=")
        name = keyword.upper()
        if not _KEYWORD.fullmatch(keyword) or name in pairs or (equals and not _VALUE.fullmatch(value)):
            raise BadParameter
        pairs[name] = value if equals else None
    return pairs


def _size(value: str | None) -> int:
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 20):  # RFC 1870 3
        raise BadParameter
    return int(value)


def _one_of(value: str | None, *allowed: str) -> str:
    found = (value or "").upper()
    if found not in allowed:
        raise BadParameter
    return found


def _flag(value: str | None) -> bool:
    if value is not None:
        raise BadParameter
    return True


def _xtext(value: str | None, longest: int) -> str:
    if value is None or len(value) > longest or not _XTEXT.fullmatch(value):
        raise BadParameter
    return value


def _notify(value: str | None) -> tuple[str, ...]:
    words = tuple((value or "").upper().split(","))
    if words == ("NEVER",):
        return words
    if not words or len(set(words)) != len(words) or not set(words) <= _NOTIFY:
        raise BadParameter
    return words


def _orcpt(value: str | None) -> str:
    kind, semicolon, address = (value or "").partition(";")
    pattern = _UTF8_XTEXT if kind.lower() == "utf-8" else _XTEXT
    if not semicolon or len(value or "") > MAX_ORCPT or not _KEYWORD.fullmatch(kind) or not pattern.fullmatch(address):
        raise BadParameter
    return value or ""
