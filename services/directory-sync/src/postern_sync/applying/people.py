"""How one user's items turn into that user's document and addresses (SPEC S2, S15, X1)."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from postern_common.events import Event, UserAdded, UserFlaggedForDeletion, UserRestored, UserUnflagged, UserUpdated
from postern_common.ids import new_id
from postern_sync.applying.writes import Found, Writes
from postern_sync.people.loading import domain_of
from postern_sync.rules.entries import FIELDS, Mailbox

Document = dict[str, Any]
UNFLAGGED: Final = {"state": "active", "flagged_at": None, "due_at": None, "flag_reason": None}
FLAG_TRACES: Final = ("due_by", "warned")
# What a user's document has beside what people see of it.
_INNER: Final = frozenset({"absent_runs", "external_id_kind"})
_NOT_FIELDS: Final = frozenset({"email", "gain", "lose"})


@dataclass(slots=True)
class Person:
    """The items of one user: together they make one change of the user's document."""

    user_id: str | None
    items: list[Document] = field(default_factory=list)
    gained: list[Mailbox] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    handed: list[str] = field(default_factory=list)
    primary: Mailbox | None = None
    fault: tuple[str, str | None] | None = None

    @classmethod
    def of(cls, items: list[Document]) -> "Person":
        """The user whose items these are."""
        person = cls(items[0]["user_id"], items)
        for item in items:
            change = item["change"]
            if "email" in change:
                person.primary = Mailbox.parse(change["email"])
            found = (Mailbox.parse(text) for text in change.get("gain", ()))
            person.gained += [mailbox for mailbox in found if mailbox is not None]
            person.lost += change.get("lose", ())
            if item["action"] == "update":
                person.handed += change.get("lose", ())
        if person.is_new and person.primary is not None:
            person.gained.insert(0, person.primary)
        return person

    @property
    def is_new(self) -> bool:
        """Whether the user is added, or comes back after the deletion."""
        return self.items[0]["action"] in {"add", "restore"}

    def licences(self, found: Found) -> int:
        """How many more licences are in use afterwards; less than none where a person becomes a mailbox of another kind
        (SPEC T6).
        """
        kind = self.fields().get("kind")
        before = None if self.is_new or kind is None else found.users[self.items[0]["user_id"]]["kind"]
        return 0 if kind is None else (kind == "user") - (before == "user")

    def keep_unless(self, received: Collection[str]) -> None:
        """Keep the addresses that were to be handed over and that nobody receives."""
        kept = {key for key in self.handed if key not in received}
        self.lost = [key for key in self.lost if key not in kept]

    def fields(self) -> Document:
        """The plain fields that are set."""
        return {name: value for item in self.items for name, value in item["change"].items() if name not in _NOT_FIELDS}

    def fail(self, state: str, error: str | None = None) -> None:
        """Leave the user as is, for that reason."""
        self.fault = (state, error)


def write_new(person: Person, found: Found, writes: Writes) -> None:
    """Add the user, or bring back a deleted one under the old id."""
    item = person.items[0]
    kept = found.deleted[item["user_id"]]["user"] if item["action"] == "restore" else None
    user = _restored(kept, found) if kept else _blank(found)
    primary, *aliases = person.gained
    user |= person.fields() | UNFLAGGED
    user["email"], user["email_key"] = primary.address, primary.key
    user["aliases"] = [_alias(mailbox, found) for mailbox in aliases]
    user["updated_at"] = found.now
    writes.users.append(user)
    writes.addresses += [_address(mailbox, user, found) for mailbox in person.gained]
    event: Event = UserAdded(customer_id=found.customer_id, user_id=user["_id"], source=user["source"])
    if kept:
        writes.restored.append(user["_id"])
        event = UserRestored(customer_id=found.customer_id, user_id=user["_id"])
    writes.events.append(event)


def _blank(found: Found) -> Document:
    return {
        "_id": new_id("usr"),
        "customer_id": found.customer_id,
        "kind": "user",
        **dict.fromkeys(FIELDS, ""),
        "site_id": None,
        "settings": {},
        "created_at": found.now,
        "version": 1,
    }


def _restored(kept: Document, found: Found) -> Document:
    dropped = {*FLAG_TRACES, "absent_runs"}
    user = {name: value for name, value in kept.items() if name not in dropped}
    site_id = kept["site_id"] if kept["site_id"] in found.sites else None
    return user | {"version": kept["version"] + 1, "site_id": site_id}


def write_known(person: Person, found: Found, writes: Writes) -> None:
    """Change a user who is here."""
    user = found.users[person.items[0]["user_id"]]
    fields = person.fields()
    unset: Document = {}
    source: str = fields.get("source") or user["source"]
    fields |= _moved_addresses(person, user, source, found, writes)
    for item in person.items:
        if item["action"] == "flag":
            fields |= _flagged(item, user, found, writes)
        if item["action"] == "unflag":
            more, unset = _unflagged(item, user, found, writes)
            fields |= more
    fields["updated_at"] = found.now
    writes.updates[user["_id"]] = (fields, unset)
    told = _told(person)
    if told:
        writes.events.append(UserUpdated(customer_id=found.customer_id, user_id=user["_id"], fields=told))


def write_unflag(item: Document, found: Found, writes: Writes) -> bool:
    """Unflag a user of whom nothing else can be changed; False where that is not called for any more."""
    user = found.users.get(item["user_id"])
    if user is None or (user["state"], user["flag_reason"]) != (item["before"]["state"], item["before"]["reason"]):
        return False
    fields, unset = _unflagged(item, user, found, writes)
    writes.updates[user["_id"]] = ({**fields, "updated_at": found.now}, unset)
    return True


def _unflagged(item: Document, user: Document, found: Found, writes: Writes) -> tuple[Document, Document]:
    reason = item["reason"] or "present"
    writes.events.append(UserUnflagged(customer_id=found.customer_id, user_id=user["_id"], reason=reason))
    return dict(UNFLAGGED), dict.fromkeys(FLAG_TRACES, "")


def _told(person: Person) -> list[str]:
    """Names of the changed fields that people know; a flag is told by an event of its own."""
    changes = [item["change"] for item in person.items if item["action"] in {"update", "drop_aliases"}]
    names = {name for change in changes for name in change}
    told = names - _INNER - {"gain", "lose"}
    return sorted(told | ({"aliases"} if names & {"gain", "lose"} else set()))


def _flagged(item: Document, user: Document, found: Found, writes: Writes) -> Document:
    writes.ended.append(user["_id"])
    writes.events.append(
        UserFlaggedForDeletion(
            customer_id=found.customer_id, user_id=user["_id"], due_at=found.due_at, reason=item["reason"]
        )
    )
    return {
        "state": "flagged",
        "flagged_at": found.now,
        "due_at": found.due_at,
        "flag_reason": item["reason"],
        "due_by": "delay",
        "absent_runs": 0,
    }


def _moved_addresses(person: Person, user: Document, source: str, found: Found, writes: Writes) -> Document:
    """The user's addresses after the change, and the rows of the collection of addresses that follow."""
    if not (person.gained or person.lost or person.primary):
        return {}
    old_key = user["email_key"]
    had = {old_key: {"address": user["email"], "key": old_key, "source": source}}
    had |= {alias["key"]: alias for alias in user["aliases"]}
    has = {key: alias for key, alias in had.items() if key not in person.lost}
    has |= {mailbox.key: _alias(mailbox, found) for mailbox in person.gained if mailbox.key not in had}
    primary = person.primary or Mailbox(user["email"], old_key, domain_of(old_key))
    if lost := [key for key in had if key not in has]:
        writes.lost[user["_id"]] = lost
    aliases = [alias for key, alias in has.items() if key != primary.key]
    fields: Document = {"email": primary.address, "email_key": primary.key, "aliases": aliases}
    after = {**user, **fields}
    writes.addresses += [_address(mailbox, after, found) for mailbox in person.gained if mailbox.key not in had]
    if primary.key != old_key:
        writes.moved[user["_id"]] = old_key
        writes.primaries[user["_id"]] = (old_key, primary.key)
    return fields


def _alias(mailbox: Mailbox, found: Found) -> Document:
    return {"address": mailbox.address, "key": mailbox.key, "source": found.provider}


def _address(mailbox: Mailbox, user: Document, found: Found) -> Document:
    return {
        "key": mailbox.key,
        "domain": mailbox.domain,
        "user_id": user["_id"],
        "is_primary": mailbox.key == user["email_key"],
        "verified": found.domains[mailbox.domain] == "verified",
    }
