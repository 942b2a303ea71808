"""What a reader gives of a directory, whichever it is: entries with parsed addresses, and members by reference.

An entry says what the directory says; whether its domains are the customer's, who owns an address that two claim, and
what follows for stored users is `reconcile`'s to decide.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from postern_common.addresses import parse_address
from postern_common.directory_documents import IdKind
from postern_common.errors import Rejected

Kind = Literal["user", "shared", "resource", "list", "public_folder"]
FIELDS: Final = ("first_name", "last_name", "home_phone", "mobile", "company", "department", "notes")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A parsed address: as it is shown and sent to, what it is compared by, and its domain's A-label."""

    address: str
    key: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> "Mailbox | None":
        """The address in `text`, or None where it holds none."""
        try:
            found = parse_address(text)
        except Rejected:
            return None
        return cls(str(found), found.key, found.domain.ascii)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of a directory.

    `id` is its identity through renames and moves (objectGUID or entryUUID as lower-case UUID text, Graph's id);
    `immutable_id` carries it over to another provider (base64 of objectGUID or mS-DS-ConsistencyGuid, Graph's
    `onPremisesImmutableId`). `name` is its DN or sign-in name, for people. `refs` are what groups name it by (DN in
    lower case without blanks around separators, `uid:…`, or the id). `fields` holds what the directory knows of FIELDS;
    a name that is missing is not known there and stays as it is, an empty text clears it. `faults` are values that were
    meant as addresses and are none. `excluded` is why the reader's rules leave it out (guest, system mailbox, hidden).
    """

    id: str
    id_kind: IdKind
    immutable_id: str | None
    name: str
    kind: Kind
    is_disabled: bool
    primary: Mailbox | None
    aliases: tuple[Mailbox, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)
    refs: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    excluded: str | None = None
    removed: Literal["soft", "hard"] | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the scratch file, the mirror and the agent's pages."""
        return {
            "id": self.id,
            "id_kind": self.id_kind,
            "immutable_id": self.immutable_id,
            "name": self.name,
            "kind": self.kind,
            "is_disabled": self.is_disabled,
            "primary": self.primary.address if self.primary else None,
            "aliases": [alias.address for alias in self.aliases],
            "fields": self.fields,
            "refs": list(self.refs),
            "faults": list(self.faults),
            "excluded": self.excluded,
            "removed": self.removed,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Entry":
        """What `to_json` gave; addresses are parsed anew, so that what another machine sent is checked here."""
        aliases = (Mailbox.parse(text) for text in data["aliases"])
        return cls(
            id=data["id"],
            id_kind=data["id_kind"],
            immutable_id=data["immutable_id"],
            name=data["name"],
            kind=data["kind"],
            is_disabled=data["is_disabled"],
            primary=Mailbox.parse(data["primary"]) if data["primary"] else None,
            aliases=tuple(alias for alias in aliases if alias is not None),
            fields=data["fields"],
            refs=tuple(data["refs"]),
            faults=tuple(data["faults"]),
            excluded=data["excluded"],
            removed=data["removed"],
        )


@dataclass(frozen=True, slots=True)
class StoredAlias:
    """A secondary address of a stored user, and the source that it came from."""

    mailbox: Mailbox
    source: str


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A user, list or other mailbox as the database has it."""

    id: str
    version: int
    source: str
    state: str
    flag_reason: str | None
    kind: Kind
    external_id: str | None
    immutable_id: str | None
    directory_state: str | None
    absent_runs: int
    primary: Mailbox
    aliases: tuple[StoredAlias, ...]
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class StoredDeleted:
    """A deleted user who can be restored."""

    id: str
    kind: Kind
    external_id: str | None
    immutable_id: str | None
    email_key: str


@dataclass(frozen=True, slots=True)
class Addition:
    """An address that an administrator added to what the directory says (SPEC S12)."""

    mailbox: Mailbox
    first_name: str
    last_name: str


@dataclass(frozen=True, slots=True)
class SyncRules:
    """What one run goes by, all of it decided before it starts.

    `source` is what new users get as theirs. `managed` are all domains of the customer, `verified` those proven.
    `licences` is how many users of kind `user` there may be, None without limit. `excepted_ids` and `excepted_keys`
    are the exceptions. `is_complete` says that the read is proven whole: without it nobody is missed. `switched` says
    that the provider is another than that of the last good run, `rescoped` that its filter, base DN or exceptions are.
    `absent_runs` is how many complete runs in a row must miss a user.
    """

    source: Literal["ldap", "entra"]
    managed: frozenset[str]
    verified: frozenset[str]
    include_disabled: bool = False
    include_public_folders: bool = False
    include_hidden: bool = True
    licences: int | None = None
    excepted_ids: frozenset[str] = frozenset()
    excepted_keys: frozenset[str] = frozenset()
    additions: tuple[Addition, ...] = ()
    is_complete: bool = True
    switched: bool = False
    rescoped: bool = False
    absent_runs: int = 1
