"""Decides what a batch of a plan writes, by what is stored now (SPEC S16): nothing that moved since is written over.

An item whose user has changed since the plan is stale. One whose address somebody else has now, or for which no licence
is left, fails. Both leave the others alone, save those of the same group that were to get an address from them, or to
give one to them. Who is back is unflagged in any case: that is decided by the stored user alone.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from postern_sync.applying.people import Person, write_known, write_new, write_unflag
from postern_sync.applying.writes import Found, Writes
from postern_sync.people.loading import domain_of

Document = dict[str, Any]
ADDRESS_TAKEN: Final = "address_taken"
NO_LICENCE: Final = "licence_limit"
DOMAIN_GONE: Final = "domain_gone"
_OF_USERS: Final = frozenset({"add", "restore", "update", "drop_aliases", "flag", "unflag"})
NEW: Final = "entry:"


def decide(groups: Iterable[list[Document]], found: Found) -> Writes:
    """The writes of these groups of items."""
    writes, free = Writes(), found.free
    for group in groups:
        people = list(_people(item for item in group if item["action"] in _OF_USERS))
        free = _judge(people, found, free)
        for person in people:
            _settle(person, found, writes)
        for item in group:
            if item["action"] not in _OF_USERS:
                _write_other(item, found, writes)
    return writes


def _people(items: Iterable[Document]) -> Iterator[Person]:
    grouped: dict[str, list[Document]] = {}
    for item in items:
        key = item["entry_id"] if item["action"] in {"add", "restore"} else item["user_id"]
        grouped.setdefault(f"{item['action'] in {'add', 'restore'}}:{key}", []).append(item)
    return (Person.of(found) for found in grouped.values())


def _judge(people: list[Person], found: Found, free: int | None) -> int | None:
    """Find who cannot be changed, and whom that concerns in turn; how many licences are left."""
    for person in people:
        _check_version(person, found)
    left = free
    while True:  # each round fails somebody, so it ends
        _refuse_taken(people, found)
        if free is None:
            break
        left, beyond = _share_out(people, found, free)
        if not beyond:
            break
        for person in beyond:
            person.fail("failed", NO_LICENCE)
    received = {box.key for person in people if person.fault is None for box in person.gained}
    for person in people:
        person.keep_unless(received)
    return left


def _refuse_taken(people: list[Person], found: Found) -> None:
    while True:
        given = {key for person in people if person.fault is None for key in person.lost}
        hit = [person for person in people if person.fault is None and _is_taken(person, given, found)]
        if not hit:
            return
        for person in hit:
            person.fail("failed", ADDRESS_TAKEN)


def _share_out(people: list[Person], found: Found, free: int) -> tuple[int, list[Person]]:
    """How many licences are left, and for whom there is none: those who are here are counted before who is new."""
    beyond: list[Person] = []
    for person in sorted((person for person in people if person.fault is None), key=lambda person: person.is_new):
        change = person.licences(found)
        # More may be in use than are allowed; a list or a shared mailbox needs none all the same.
        if person.is_new and change > max(free, 0):
            beyond.append(person)
        else:
            free -= change
    return free, beyond


def _check_version(person: Person, found: Found) -> None:
    item = person.items[0]
    if item["action"] == "restore" and (item["user_id"] not in found.deleted or item["user_id"] in found.users):
        person.fail("stale")
    elif not person.is_new:
        user = found.users.get(item["user_id"])
        if user is None or user["version"] != item["version"]:
            person.fail("stale")
    boxes = [*person.gained, *([person.primary] if person.primary is not None else [])]
    if any(box.domain not in found.domains for box in boxes):
        person.fail("failed", DOMAIN_GONE)


def _is_taken(person: Person, given: set[str], found: Found) -> bool:
    for mailbox in person.gained:
        owner = found.owners.get(mailbox.key)
        is_free = owner is None or (owner == person.user_id and not person.is_new)
        if not is_free and (owner == "" or mailbox.key not in given):
            return True
    return False


def _settle(person: Person, found: Found, writes: Writes) -> None:
    if person.fault is None:
        (write_new if person.is_new else write_known)(person, found, writes)
    for item in person.items:
        state, error = person.fault or ("applied", None)
        if person.fault is not None and item["action"] == "unflag":
            state, error = ("applied" if write_unflag(item, found, writes) else "stale"), None
        writes.settle(item, state, error)


def _write_other(item: Document, found: Found, writes: Writes) -> None:
    change = item["change"]
    if item["action"] == "know":
        row = {"key": change["key"], "domain": domain_of(change["key"]), "reason": item["reason"]}
        writes.known.append({"customer_id": found.customer_id, **row})
    elif item["action"] == "forget":
        writes.forgotten.append(change["key"])
    else:
        group_id = item["user_id"] or found.joined.get(item["entry_id"])
        if group_id is None or group_id not in found.existing:
            writes.settle(item, "stale")
            return
        _write_members(item["action"], group_id, change["members"], found, writes)
    writes.settle(item, "applied")


def _write_members(action: str, group_id: str, refs: Iterable[str], found: Found, writes: Writes) -> None:
    ids = {found.joined.get(ref.removeprefix(NEW), "") if ref.startswith(NEW) else ref for ref in refs}
    if action == "remove_members":
        writes.members_gone.setdefault(group_id, []).extend(sorted(ids))
        return
    for member_id in sorted(ids & found.existing):
        if (group_id, member_id) not in found.members:
            row = {"group_id": group_id, "member_id": member_id, "source": found.provider}
            writes.members.append({"customer_id": found.customer_id, **row})
