"""Which addresses an entry of an LDAP directory has (SPEC L3, BEHAVIOURS 3.5).

A directory guarantees nothing: two primary addresses, twins that differ by case, blanks, values that are none. Nothing
here knows which domains are the customer's.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from postern_sync.rules.entries import Mailbox

_PREFIXED: Final = re.compile(r"([A-Za-z0-9]+):(.*)", re.DOTALL)
MAX_FAULTS: Final = 10
_MAX_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Found:
    """The primary address, the others in the order of the directory, and values that were meant as addresses."""

    primary: Mailbox | None
    aliases: tuple[Mailbox, ...]
    faults: tuple[str, ...]


def find_addresses(proxies: Sequence[str], mails: Sequence[str], others: Sequence[str], upn: str | None) -> Found:
    """What `proxyAddresses`, `mail` and attributes of further addresses come to; `upn` is taken for want of all.

    The prefix is tested as it is written: `SMTP` is primary, `smtp` in any other spelling is not. Of several primary
    ones it is the one that `mail` names, else the first by the alphabet, so that it is the same in every run.
    """
    faults: list[str] = []
    primaries: list[Mailbox] = []
    secondary: list[Mailbox] = []
    for value in proxies:
        prefixed = _PREFIXED.fullmatch(value.strip())
        if prefixed is not None and prefixed[1].lower() == "smtp":
            _take(prefixed[2], primaries if prefixed[1] == "SMTP" else secondary, faults)
    plain: list[Mailbox] = []
    for value in mails:
        if value.strip():
            _take(value, plain, faults)
    further: list[Mailbox] = []
    for value in others:
        prefixed = _PREFIXED.fullmatch(value.strip())
        _take(prefixed[2] if prefixed is not None and prefixed[1].lower() == "smtp" else value, further, faults)
    primary = _primary(primaries, plain) or (Mailbox.parse(upn) if upn else None)
    aliases = _others(primary, [*primaries, *secondary, *plain, *further])
    return Found(primary, aliases, tuple(faults[:MAX_FAULTS]))


def _take(text: str, found: list[Mailbox], faults: list[str]) -> None:
    mailbox = Mailbox.parse(text)
    if mailbox is not None:
        found.append(mailbox)
    else:
        shown = "".join(char if char.isprintable() else "?" for char in text) or "(empty)"
        faults.append(shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…")


def _primary(primaries: Sequence[Mailbox], plain: Sequence[Mailbox]) -> Mailbox | None:
    if not primaries:
        return plain[0] if plain else None
    named = {mailbox.key for mailbox in plain}
    return min(primaries, key=lambda mailbox: (mailbox.key not in named, mailbox.key, mailbox.address))


def _others(primary: Mailbox | None, candidates: Iterable[Mailbox]) -> tuple[Mailbox, ...]:
    """The candidates without the primary one, each once."""
    kept: dict[str, Mailbox] = {}
    for mailbox in candidates:
        if primary is None or mailbox.key != primary.key:
            kept.setdefault(mailbox.key, mailbox)
    return tuple(kept.values())
