"""Whether mail for one recipient is taken (SPEC D7, R4, R13, U4).

The directory gathers the facts from its snapshot; this decides. What is not known for certain is put off, never
refused: a 450 or 451 costs a sender some minutes, a wrong 550 costs the message.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from postern_common.addresses import address_key, strip_detail, unquote_local
from postern_common.documents import DomainState, RecipientMode
from postern_edge.rules.paths import Mailbox

ALWAYS_TAKEN: Final = frozenset({"postmaster", "abuse"})  # RFC 5321 4.5.1, RFC 2142 4


class Verdict(Enum):
    """What the RCPT command is answered with."""

    ACCEPT = "accept"
    UNKNOWN_DOMAIN = "unknown_domain"  # 550 5.7.1: nobody here owns it, or its proof expired
    PENDING_DOMAIN = "pending_domain"  # 450 4.7.1: somebody is about to prove it
    UNKNOWN_USER = "unknown_user"  # 550 5.1.1
    CANNOT_TELL = "cannot_tell"  # 451 4.3.0: the truth cannot be read, or is too old to refuse by


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """What the snapshot holds about a domain: its state and its customer's settings.

    `users_current` is false while the users cannot be read, or when the customer's last good directory sync is
    older than twice its interval. `customer_id` is "" where no customer has verified the domain.
    """

    state: DomainState
    customer_id: str = ""
    mode: RecipientMode = RecipientMode.ACCEPT_ALL
    plus_addressing: bool = True
    max_message_bytes: int | None = None
    users_current: bool = True


@dataclass(frozen=True, slots=True)
class RecipientAnswer:
    """The verdict, and whose the recipient is where the domain is verified.

    `max_message_bytes` is the customer's own limit (SPEC R13).
    """

    verdict: Verdict
    customer_id: str = ""
    user_id: str | None = None
    max_message_bytes: int | None = None


def decide(
    mailbox: Mailbox,
    domain: DomainFacts | None,
    find_user: Callable[[str], str | None],
    *,
    is_known: Callable[[str, str], bool] = lambda _customer_id, _key: False,
    readable: bool = True,
) -> RecipientAnswer:
    """Decide on one recipient.

    `domain` is None for a domain that no customer has; `find_user` gives the user's id for an address key; `is_known`
    tells of an address that the customer's directory has although no user here does (SPEC R4);
    `readable` is false while the snapshot was never loaded or is too old to be trusted.
    """
    if not readable:
        return RecipientAnswer(Verdict.CANNOT_TELL)
    if domain is None or domain.state is DomainState.EXPIRED:
        return RecipientAnswer(Verdict.UNKNOWN_DOMAIN)
    if domain.state is DomainState.PENDING:
        return RecipientAnswer(Verdict.PENDING_DOMAIN)
    user_id = _find(mailbox, domain, find_user)
    if (
        user_id is None
        and domain.mode is RecipientMode.KNOWN_ONLY
        and not _is_always_taken(mailbox)
        and not any(is_known(domain.customer_id, key) for key in _keys(mailbox, domain))
    ):
        verdict = Verdict.UNKNOWN_USER if domain.users_current else Verdict.CANNOT_TELL
        return RecipientAnswer(verdict, domain.customer_id)
    return RecipientAnswer(Verdict.ACCEPT, domain.customer_id, user_id, domain.max_message_bytes)


def _find(mailbox: Mailbox, domain: DomainFacts, find_user: Callable[[str], str | None]) -> str | None:
    return next((user_id for key in _keys(mailbox, domain) if (user_id := find_user(key)) is not None), None)


def _keys(mailbox: Mailbox, domain: DomainFacts) -> Iterator[str]:
    """The address itself first, then without its plus-tag (SPEC U4)."""
    yield mailbox.key
    if domain.plus_addressing and "+" in mailbox.local:
        yield address_key(strip_detail(unquote_local(mailbox.local)), mailbox.domain)


def _is_always_taken(mailbox: Mailbox) -> bool:
    return unquote_local(mailbox.local).casefold() in ALWAYS_TAKEN
