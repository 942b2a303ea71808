"""What makes a stored user the same as an entry of the directory: the fields, the addresses, the state (SPEC S2, S3).

Addresses are told as differences (`gain`, `lose`), so that what administrators added by hand stays: a synchronisation
takes off only aliases that came from a directory. A changed primary address leaves the old one as an alias unless it is
lost too.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from postern_sync.rules.entries import FIELDS, Entry, Mailbox, StoredUser, SyncRules
from postern_sync.rules.standing import directory_state

DIRECTORY_SOURCES: Final = frozenset({"ldap", "entra"})
BY_HAND: Final = "by hand"


@dataclass(frozen=True, slots=True)
class Addresses:
    """What an entry gets of what it claims. `primary` None leaves the stored one."""

    primary: Mailbox | None
    aliases: tuple[Mailbox, ...]


@dataclass(slots=True)
class Change:
    """A user's change: `values` and `gain` are set, `lose` goes to others, `drop` goes for good."""

    values: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    gain: list[Mailbox] = field(default_factory=list)
    lose: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    unflag: bool = False

    @property
    def updates(self) -> bool:
        """Whether anything is to be set, beside drops."""
        return bool(self.values or self.gain or self.lose)


def is_of_directory(user: StoredUser) -> bool:
    """Whether a directory is the system of truth for the user; others are only supplemented (SPEC S3)."""
    return user.source in DIRECTORY_SOURCES


def change_of(
    user: StoredUser, entry: Entry, addresses: Addresses, rules: SyncRules, handed_over: Collection[str]
) -> Change:
    """The change of a stored user that is joined to an entry; `handed_over` are keys that others get in this plan."""
    change = Change()
    _set_identity(change, user, entry, rules)
    for name in FIELDS:
        # What somebody typed here is not blanked by a directory that knows nothing of it (SPEC S3).
        is_told = name in entry.fields and (is_of_directory(user) or entry.fields[name] != "")
        if is_told and entry.fields[name] != user.fields.get(name, ""):
            _set(change, name, entry.fields[name], user.fields.get(name, ""))
    _set_addresses(change, user, addresses, handed_over)
    if not rules.is_complete:
        change.drop = []  # a read that is not proven whole adds and updates only (BEHAVIOURS 3.2)
    if is_of_directory(user):
        change.unflag = (user.state == "flagged" and user.flag_reason != BY_HAND) or user.state == "ignored"
    return change


def _set(change: Change, name: str, value: Any, before: Any) -> None:
    change.values[name] = value
    change.before[name] = before


def _set_identity(change: Change, user: StoredUser, entry: Entry, rules: SyncRules) -> None:
    if user.external_id != entry.id:
        _set(change, "external_id", entry.id, user.external_id)
        change.values["external_id_kind"] = entry.id_kind
    if entry.immutable_id is not None and user.immutable_id != entry.immutable_id:
        _set(change, "immutable_id", entry.immutable_id, user.immutable_id)
    state = directory_state(entry)
    if user.directory_state != state:
        _set(change, "directory_state", state, user.directory_state)
    if user.absent_runs:
        change.values["absent_runs"] = 0
    if not is_of_directory(user):
        return
    if user.source != rules.source:
        _set(change, "source", rules.source, user.source)
    if user.kind != entry.kind:
        _set(change, "kind", entry.kind, user.kind)


def _set_addresses(change: Change, user: StoredUser, addresses: Addresses, handed_over: Collection[str]) -> None:
    stored = {alias.mailbox.key: alias for alias in user.aliases}
    wanted = {mailbox.key: mailbox for mailbox in addresses.aliases}
    primary = addresses.primary if addresses.primary is not None and is_of_directory(user) else user.primary
    if primary.address != user.primary.address:
        _set(change, "email", primary.address, user.primary.address)
    if primary.key != user.primary.key and primary.key not in stored:
        change.gain.append(primary)
    has = {user.primary.key, *stored}
    change.gain += [mailbox for key, mailbox in sorted(wanted.items()) if key not in has and key != primary.key]
    ours = {key for key, alias in stored.items() if alias.source in DIRECTORY_SOURCES}
    if primary.key != user.primary.key:
        ours.add(user.primary.key)
    gone = sorted(key for key in ours if key not in wanted and key != primary.key)
    change.lose = [key for key in gone if key in handed_over]
    change.drop = [key for key in gone if key not in handed_over]
    if change.gain or change.lose or change.drop:
        change.before["aliases"] = [alias.mailbox.address for alias in user.aliases]
