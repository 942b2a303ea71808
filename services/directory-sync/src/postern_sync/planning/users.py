"""The plan's items about users and lists: added, restored, updated, flagged, unflagged (SPEC S2 to S5, S15, T6)."""

import json
from collections.abc import Iterator
from typing import Any, Final

from postern_sync.planning.output import Output
from postern_sync.rules.changes import Addresses, Change, change_of
from postern_sync.rules.entries import Entry, StoredUser, SyncRules
from postern_sync.rules.plan import PlanItem
from postern_sync.rules.standing import FOUND_WITHOUT_PRIMARY, NO_ADDRESS, directory_state, flag_reason
from postern_sync.workspace import BATCH, Workspace, read_entry, read_user

FAULT: Final = "unusable_value"

_JOINED: Final = """
SELECT e.id, e.standing, e.data, s.data, (SELECT group_concat(w.key, char(10)) FROM won w WHERE w.entry_id = e.id),
       (SELECT group_concat(h.key, char(10)) FROM handed h WHERE h.user_id = s.id)
FROM joined j JOIN entry e ON e.id = j.entry_id JOIN stored s ON s.id = j.user_id
WHERE e.id > ? ORDER BY e.id LIMIT ?
"""
_NEW: Final = """
SELECT e.id, r.user_id, e.data, (SELECT group_concat(w.key, char(10)) FROM won w WHERE w.entry_id = e.id)
FROM entry e LEFT JOIN restoring r ON r.entry_id = e.id
WHERE e.standing = 'in' AND e.id NOT IN (SELECT entry_id FROM joined)
  AND e.id NOT IN (SELECT entry_id FROM unadded) AND e.id > ? ORDER BY e.id LIMIT ?
"""
_MISSING: Final = """
SELECT s.id, s.data, e.standing, e.data FROM stored s
LEFT JOIN joined j ON j.user_id = s.id LEFT JOIN entry e ON e.id = j.entry_id
WHERE (e.id IS NULL OR e.standing <> 'in') AND s.source IN ('ldap', 'entra')
  AND s.id NOT IN (SELECT user_id FROM ambiguous) AND s.id > ? ORDER BY s.id LIMIT ?
"""
_OUT: Final = "SELECT id, standing, data FROM entry WHERE standing <> 'in' AND id > ? ORDER BY id LIMIT ?"


def plan_joined(workspace: Workspace, rules: SyncRules, output: Output) -> None:
    """Update those who are in both."""
    for _entry_id, found, entry_data, user_data, won, handed in _pages(workspace, _JOINED):
        if found != "in" and found not in FOUND_WITHOUT_PRIMARY:
            continue
        entry, user = read_entry(entry_data), read_user(user_data)
        change = change_of(user, entry, _addresses(entry, won), rules, _keys(handed))
        _update(output, entry, user, change)
        _report_faults(output, entry)
        if found in FOUND_WITHOUT_PRIMARY:
            output.skip(found, entry, detail=_instead(found, entry))


def _instead(found: str, entry: Entry) -> str:
    """What stands there in place of an address."""
    return ", ".join(entry.faults) if found == NO_ADDRESS else ""


def _report_faults(output: Output, entry: Entry) -> None:
    """Tell of values that were meant as addresses, or as something else that is needed, and are none."""
    for fault in entry.faults:
        output.skip(FAULT, entry, detail=fault)


def _addresses(entry: Entry, won: str | None) -> Addresses:
    keys = _keys(won)
    primary = entry.primary if entry.primary is not None and entry.primary.key in keys else None
    mailboxes = (entry.primary, *entry.aliases)
    aliases = tuple(box for box in mailboxes if box is not None and box.key in keys)
    return Addresses(primary, aliases)


def _keys(text: str | None) -> set[str]:
    return set(text.split("\n")) if text else set()


def _update(output: Output, entry: Entry, user: StoredUser, change: Change) -> None:
    common: dict[str, Any] = {"user_id": user.id, "entry_id": entry.id, "version": user.version}
    label = user.primary.address
    if change.updates:
        values = dict(change.values)
        if change.gain:
            values["gain"] = [mailbox.address for mailbox in change.gain]
        if change.lose:
            values["lose"] = change.lose
        gained = tuple(mailbox.key for mailbox in change.gain)
        item = PlanItem(
            0,
            0,
            "update",
            label,
            change=values,
            before=change.before,
            gained=gained,
            dropped=tuple(change.lose),
            **common,
        )
        output.item(item)
        output.counts.updated += 1
    if change.drop:
        aliases = [alias.mailbox.address for alias in user.aliases]
        output.item(
            PlanItem(
                0, 0, "drop_aliases", label, change={"lose": change.drop}, before={"aliases": aliases},
                dropped=tuple(change.drop), destructive=True, **common,
            )
        )  # fmt: skip
        output.counts.aliases_dropped += len(change.drop)
    if change.unflag:
        before = {"state": user.state, "reason": user.flag_reason}
        output.item(PlanItem(0, 0, "unflag", label, reason="present", before=before, **common))
        output.counts.unflagged += 1
    if not (change.updates or change.drop or change.unflag):
        output.counts.unchanged += 1


def plan_new(workspace: Workspace, rules: SyncRules, output: Output) -> None:
    """Add those who are not here, as far as the licences went, or give back those who were."""
    for _entry_id, deleted, entry_data, won in _pages(workspace, _NEW):
        entry = read_entry(entry_data)
        _add(rules, output, entry, _addresses(entry, won), deleted)
        _report_faults(output, entry)


def _add(rules: SyncRules, output: Output, entry: Entry, addresses: Addresses, deleted: str | None) -> None:
    assert addresses.primary is not None  # noqa: S101 - an entry whose primary address goes to another takes no part
    aliases = [mailbox for mailbox in addresses.aliases if mailbox.key != addresses.primary.key]
    values: dict[str, Any] = {
        "email": addresses.primary.address,
        "gain": [mailbox.address for mailbox in aliases],
        "source": rules.source,
        "kind": entry.kind,
        "external_id": entry.id,
        "external_id_kind": entry.id_kind,
        "immutable_id": entry.immutable_id,
        "directory_state": directory_state(entry),
        **entry.fields,
    }
    gained = (addresses.primary.key, *(mailbox.key for mailbox in aliases))
    output.item(
        PlanItem(
            0, 0, "restore" if deleted else "add", addresses.primary.address, user_id=deleted, entry_id=entry.id,
            change=values, gained=gained,
        )
    )  # fmt: skip
    if deleted:
        output.counts.restored += 1
    else:
        output.counts.added += 1


def plan_missing(workspace: Workspace, rules: SyncRules, output: Output) -> None:
    """Flag users of a directory that is proven read whole and has them no more (SPEC S16)."""
    if not rules.is_complete:
        return
    for _user_id, user_data, found, entry_data in _pages(workspace, _MISSING):
        user = read_user(user_data)
        reason = flag_reason(found, rules)
        if reason is not None:
            _miss(rules, output, user, reason, _state_of(reason), entry_data)


def _state_of(reason: str) -> str:
    return reason if reason in {"disabled", "soft_deleted", "hard_deleted"} else "absent"


def _miss(rules: SyncRules, output: Output, user: StoredUser, reason: str, state: str, entry_data: str | None) -> None:
    common: dict[str, Any] = {
        "user_id": user.id,
        "entry_id": json.loads(entry_data)["id"] if entry_data else None,
        "version": user.version,
    }
    label = user.primary.address
    before = {"directory_state": user.directory_state}
    if user.state != "active":
        if user.directory_state != state:
            item = PlanItem(0, 0, "update", label, change={"directory_state": state}, before=before, **common)
            output.item(item)
            output.counts.updated += 1
        return
    if reason == "absent" and user.absent_runs + 1 < rules.absent_runs:
        missed = {"absent_runs": user.absent_runs + 1}
        output.item(PlanItem(0, 0, "update", label, change=missed, before={"absent_runs": user.absent_runs}, **common))
        output.counts.updated += 1
        return
    change = {"directory_state": state}
    output.item(PlanItem(0, 0, "flag", label, reason=reason, change=change, before=before, destructive=True, **common))
    output.counts.flagged += 1


def report_out(workspace: Workspace, output: Output) -> None:
    """Tell of entries that take no part, and keep taking mail for those whom a conflict leaves out (SPEC R4)."""
    from_conflict = {"address_taken", "address_taken_elsewhere", "duplicate_primary"}
    for _entry_id, found, data in _pages(workspace, _OUT):
        entry = read_entry(data)
        if found in from_conflict:
            output.leave_out(entry, found)
        elif found not in FOUND_WITHOUT_PRIMARY or not _is_joined(workspace, entry.id):
            output.skip(found, entry, detail=_instead(found, entry))


def _is_joined(workspace: Workspace, entry_id: str) -> bool:
    return next(workspace.rows("SELECT 1 FROM joined WHERE entry_id = ?", (entry_id,)), None) is not None


def count_stored(workspace: Workspace, output: Output) -> None:
    """Fill the guard's denominators."""
    query = """SELECT COUNT(*) FROM stored
               WHERE source IN ('ldap', 'entra') AND json_extract(data, '$.state') = 'active' AND kind <> 'list'"""
    output.counts.directory_users = next(workspace.rows(query))[0]
    query = """SELECT COUNT(*) FROM held h JOIN stored s ON s.id = h.user_id
               WHERE h.is_directorys = 1 AND s.email_key <> h.key"""
    output.counts.directory_aliases = next(workspace.rows(query))[0]
    output.counts.directory_members = next(workspace.rows("SELECT COUNT(*) FROM stored_member"))[0]


def _pages(workspace: Workspace, query: str) -> Iterator[tuple[Any, ...]]:
    """Rows in pages by their first column, so that writing between them disturbs nothing."""
    last = ""
    while True:
        workspace.check()
        page = list(workspace.rows(query, (last, BATCH)))
        yield from page
        if len(page) < BATCH:
            return
        last = page[-1][0]
