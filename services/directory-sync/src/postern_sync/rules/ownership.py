"""Who gets an address that entries of a directory claim (SPEC U4, BEHAVIOURS B-M13, CASES 5, 6, 42).

A primary beats an alias; the entry whose stored user has the address keeps it; whoever has it here without being one
of the claimants keeps it as well. Two unknown entries with one primary address are both left out, since nobody can
tell which one is right; of two unknown aliases the first by identity gets it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

TAKEN: Final = "address_taken"
ELSEWHERE: Final = "address_taken_elsewhere"
DUPLICATE_PRIMARY: Final = "duplicate_primary"
DUPLICATE_ALIAS: Final = "duplicate_alias"
ALIAS_IS_PRIMARY: Final = "alias_is_primary_of_another"


@dataclass(frozen=True, slots=True)
class Claim:
    """An entry that wants an address; `user_id` is the stored user that it is joined to."""

    entry_id: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class Holder:
    """The stored user that has an address. `keeps` says that nothing makes them give it up to another entry."""

    user_id: str
    keeps: bool


@dataclass(frozen=True, slots=True)
class Ruling:
    """Who gets the address (None: nobody, or the holder as before), and why the others do not."""

    winner: str | None
    refusal: str


def rule_primary(claims: Sequence[Claim], holder: Holder | None, *, is_elsewhere: bool) -> Ruling:
    """Decide between entries that claim an address as their primary one."""
    return _rule(claims, holder, is_elsewhere=is_elsewhere, rival=DUPLICATE_PRIMARY, otherwise="nobody")


def rule_alias(claims: Sequence[Claim], holder: Holder | None, *, is_elsewhere: bool) -> Ruling:
    """Decide between entries that claim an address as a secondary one, and no entry has it as primary."""
    return _rule(claims, holder, is_elsewhere=is_elsewhere, rival=DUPLICATE_ALIAS, otherwise="first")


def _rule(
    claims: Sequence[Claim],
    holder: Holder | None,
    *,
    is_elsewhere: bool,
    rival: str,
    otherwise: Literal["nobody", "first"],
) -> Ruling:
    if holder is not None:
        for claim in claims:
            if claim.user_id == holder.user_id:
                return Ruling(claim.entry_id, rival)
        if holder.keeps:
            return Ruling(None, TAKEN)
    elif is_elsewhere:
        return Ruling(None, ELSEWHERE)
    if len(claims) == 1:
        return Ruling(claims[0].entry_id, rival)
    known = sorted(claim.entry_id for claim in claims if claim.user_id is not None)
    if len(known) == 1:
        return Ruling(known[0], rival)
    if otherwise == "nobody":
        return Ruling(None, rival)
    return Ruling(known[0] if known else min(claim.entry_id for claim in claims), rival)
