"""Small directories and stored users for tests of the plan, and a model of what applying a plan does."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from postern_sync.planning.reconcile import reconcile
from postern_sync.rules.entries import Entry, Mailbox, StoredAlias, StoredDeleted, StoredUser, SyncRules
from postern_sync.rules.plan import PlanCounts, PlanItem, Skip
from postern_sync.workspace import Workspace

DOMAINS = frozenset({"demo.test", "other.test"})


def box(text: str) -> Mailbox:
    """A mailbox; a name alone is in demo.test."""
    found = Mailbox.parse(text if "@" in text else f"{text}@demo.test")
    assert found is not None
    return found


def entry(name: str, primary: str | None = None, *aliases: str, **fields: Any) -> Entry:
    """An entry of a directory; its primary address is its id unless one is given."""
    base = Entry(
        id=name,
        id_kind="objectGUID",
        immutable_id=None,
        name=f"cn={name}",
        kind="user",
        is_disabled=False,
        primary=box(name if primary is None else primary) if primary != "" else None,
        aliases=tuple(box(alias) for alias in aliases),
        refs=(f"cn={name}",),
    )
    return replace(base, **fields)


def user(name: str, primary: str | None = None, *aliases: str, **fields: Any) -> StoredUser:
    """A stored user of the directory, joined to the entry of the same id unless `external_id` says otherwise."""
    source = fields.get("source", "ldap")
    base = StoredUser(
        id=f"usr_{name}",
        version=1,
        source="ldap",
        state="active",
        flag_reason=None,
        kind="user",
        external_id=name if source in {"ldap", "entra"} else None,
        immutable_id=None,
        directory_state="present" if source in {"ldap", "entra"} else None,
        absent_runs=0,
        primary=box(name if primary is None else primary),
        aliases=tuple(StoredAlias(box(alias), source) for alias in aliases),
        fields={},
    )
    return replace(base, **fields)


def rules(**fields: Any) -> SyncRules:
    """Rules of a run over LDAP with both domains verified."""
    base: dict[str, Any] = {"source": "ldap", "managed": DOMAINS, "verified": DOMAINS}
    return SyncRules(**(base | fields))


class Planned:
    """A plan that was worked out: its items, what was left out, the counts."""

    def __init__(self, items: list[PlanItem], skips: list[Skip], counts: PlanCounts) -> None:
        self.items = items
        self.skips = skips
        self.counts = counts

    def of(self, action: str) -> list[PlanItem]:
        """The items of one action."""
        return [item for item in self.items if item.action == action]

    def labels(self, action: str) -> set[str]:
        """What the items of one action are about."""
        return {item.label for item in self.of(action)}

    def reasons(self) -> dict[str, set[str]]:
        """Names that were left out, by reason."""
        found: dict[str, set[str]] = {}
        for skip in self.skips:
            found.setdefault(skip.reason, set()).add(skip.name)
        return found


def plan(
    entries: Iterable[Entry],
    stored: Iterable[StoredUser] = (),
    sync_rules: SyncRules | None = None,
    *,
    members: Sequence[tuple[str, str]] = (),
    stored_members: Sequence[tuple[str, str, str]] = (),
    deleted: Sequence[StoredDeleted] = (),
    known: Sequence[tuple[str, str]] = (),
    taken: Sequence[str] = (),
    page: int = 3,
) -> Planned:
    """Reconcile small things; entries come in pages of `page`."""
    workspace = Workspace()
    entries = list(entries)
    for start in range(0, len(entries), page):
        workspace.put(entries[start : start + page])
    for group, ref in members:
        workspace.put_members(group, [ref])
    workspace.put_stored(stored)
    workspace.put_stored_members(stored_members)
    workspace.put_deleted(deleted)
    workspace.put_known(known)
    workspace.put_taken(taken)
    counts = reconcile(workspace, sync_rules or rules())
    planned = Planned(list(workspace.items()), list(workspace.skips()), counts)
    workspace.close()
    return planned


def applied(stored: Iterable[StoredUser], items: Iterable[PlanItem]) -> dict[str, StoredUser]:
    """The stored users after a plan; raises where an address would have two owners at the end of a group."""
    users = {one.id: one for one in stored}
    group = 0
    for item in items:
        if item.group != group:
            _check_owners(users.values())
            group = item.group
        if item.action in {"add", "restore"}:
            added = _added(item)
            users[added.id] = added
        elif item.action in {"update", "drop_aliases"}:
            users[item.user_id or ""] = _updated(users[item.user_id or ""], item)
        elif item.action in {"flag", "unflag"}:
            one = users[item.user_id or ""]
            users[one.id] = replace(
                one,
                state="flagged" if item.action == "flag" else "active",
                flag_reason=item.reason if item.action == "flag" else None,
                directory_state=item.change.get("directory_state", one.directory_state),
                absent_runs=0 if item.action == "flag" else one.absent_runs,
            )
    _check_owners(users.values())
    return users


def _added(item: PlanItem) -> StoredUser:
    change = item.change
    plain = {name: change[name] for name in ("kind", "source", "external_id", "immutable_id", "directory_state")}
    names = {name: change[name] for name in change.keys() - plain.keys() - {"email", "gain", "external_id_kind"}}
    aliases = tuple(StoredAlias(box(text), change["source"]) for text in change["gain"])
    return StoredUser(
        id=item.user_id or f"usr_new_{item.entry_id}",
        version=1,
        state="active",
        flag_reason=None,
        absent_runs=0,
        primary=box(change["email"]),
        aliases=aliases,
        fields=names,
        **plain,
    )


def _updated(one: StoredUser, item: PlanItem) -> StoredUser:
    change = dict(item.change)
    aliases = {alias.mailbox.key: alias for alias in one.aliases}
    source = change.get("source", one.source)
    for text in change.pop("gain", []):
        aliases[box(text).key] = StoredAlias(box(text), source if source in {"ldap", "entra"} else "ldap")
    primary = one.primary
    if "email" in change:
        aliases[one.primary.key] = StoredAlias(one.primary, source)
        primary = box(change.pop("email"))
        aliases.pop(primary.key, None)
    for key in change.pop("lose", []):
        aliases.pop(key)
    change.pop("external_id_kind", None)
    names = {"first_name", "last_name", "home_phone", "mobile", "company", "department", "notes"}
    fields = dict(one.fields) | {name: change.pop(name) for name in names & change.keys()}
    return replace(one, primary=primary, aliases=tuple(aliases.values()), fields=fields, **change)


def _check_owners(users: Iterable[StoredUser]) -> None:
    owners: dict[str, str] = {}
    for one in users:
        for key in (one.primary.key, *(alias.mailbox.key for alias in one.aliases)):
            assert owners.setdefault(key, one.id) == one.id, f"{key} has two owners: {owners[key]} and {one.id}"
