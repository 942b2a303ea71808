"""Where an entry of the directory stands: it takes part, is left out and why, or is switched off (SPEC S4, S10, S12).

Whether its addresses are free is another rule's question (`ownership`).
"""

from typing import Final

from postern_sync.rules.entries import Entry, SyncRules

IN: Final = "in"
DISABLED: Final = "disabled"
SOFT_DELETED: Final = "soft_deleted"
HARD_DELETED: Final = "hard_deleted"
NO_ADDRESS: Final = "no_address"
UNMANAGED: Final = "primary_domain_unmanaged"
EXCEPTION: Final = "exception"
# Entries that are there, but whose primary address cannot be used: a user who has them already keeps what is stored.
FOUND_WITHOUT_PRIMARY: Final = frozenset({NO_ADDRESS, UNMANAGED})


def standing(entry: Entry, rules: SyncRules) -> str:
    """`in`, or the reason why the entry takes no part."""
    if entry.removed is not None:
        return SOFT_DELETED if entry.removed == "soft" else HARD_DELETED
    if entry.id in rules.excepted_ids:
        return EXCEPTION  # BEHAVIOURS 3.8: exceptions always win
    if entry.excluded is not None:
        return entry.excluded
    if entry.kind == "public_folder" and not rules.include_public_folders:
        return "public_folder"
    # A disabled account with a shared, room, equipment or linked mailbox is no person who left (SPEC S10).
    if entry.is_disabled and entry.kind == "user" and not rules.include_disabled:
        return DISABLED
    if entry.primary is None:
        return NO_ADDRESS
    if entry.primary.domain not in rules.verified:
        return UNMANAGED
    return IN


def directory_state(entry: Entry) -> str:
    """What the directory says of an entry that takes part."""
    return "disabled" if entry.is_disabled and entry.kind == "user" else "present"


def flag_reason(found: str | None, rules: SyncRules) -> str | None:
    """Why a stored user whose entry stands at `found` (None: no entry) is to be flagged; None where not at all.

    A user who is found, only without an address of ours, is not missing and is not flagged (CASES 20).
    """
    if found is None:
        if rules.switched:
            return "provider_switch"
        return "filter" if rules.rescoped else "absent"
    if found == IN or found in FOUND_WITHOUT_PRIMARY:
        return None
    if found in {DISABLED, SOFT_DELETED, HARD_DELETED}:
        return found
    return "filter"
