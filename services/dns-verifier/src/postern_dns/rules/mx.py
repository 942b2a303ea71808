"""The daily state of a verified domain's MX records: does its mail come to us, and to us alone? (SPEC D4, G2)"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from postern_dns.rules.answers import Look

MailState = Literal["ok", "warn", "fail", "cannot_tell"]
NULL_MX: Final = "."


@dataclass(frozen=True, slots=True)
class MailVerdict:
    """A state with what was found and a text for the domain's owner.

    `is_told` is false if name servers could not tell; a record that nothing here can be compared with was told.
    """

    state: MailState
    found: tuple[str, ...]
    explanation: str
    is_told: bool = True


def judge(look: Look, own_hosts: Sequence[str]) -> MailVerdict:
    """Compare the MX records of a domain with the host names at which we take mail."""
    if not look.is_definite:
        text = f"The name servers of {look.name} could not tell its MX records just now."
        return MailVerdict("cannot_tell", (), text, is_told=False)
    found = look.agreed()
    if not found:
        text = f"{look.name} has no MX record, so other servers do not know where to bring its mail."
        return MailVerdict("fail", (), text)
    hosts = [_host(record) for record in found]
    if NULL_MX in hosts:  # RFC 7505 3
        text = f"{look.name} has a null MX (“0 .”), which says that it takes no mail at all."
        return MailVerdict("fail", found, text)
    own = {host.lower().rstrip(".") for host in own_hosts}
    if not own:
        text = "No MX host names are configured for this installation to compare with."
        return MailVerdict("cannot_tell", found, text)
    leftover = [host for host in hosts if host not in own]
    if not leftover:
        return MailVerdict("ok", found, f"All MX records of {look.name} point here.")
    names = ", ".join(leftover)
    if len(leftover) == len(hosts):
        text = f"The MX records of {look.name} point elsewhere: {names}. Its mail does not come here."
        return MailVerdict("fail", found, text)
    text = f"Besides ours, MX records of {look.name} still point to {names}: mail can go around the filter."
    return MailVerdict("warn", found, text)


def _host(record: str) -> str:
    host = record.rpartition(" ")[2].lower()
    return host if host == NULL_MX else host.rstrip(".")
