"""Reads an LDAP directory whole (SPEC L2, BEHAVIOURS 3.2 to 3.6).

Groups come first, so that members by primary group find theirs, then users, then public folders. Pages are asked for by
RFC 2696 and the result of every one is looked at. What is held is one entry, one batch, and the groups of the page
whose members did not come whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from postern_sync.adapters.ldap import ber, replica
from postern_sync.adapters.ldap.faults import (
    GARBLED,
    NO_PAGING,
    SUCCESS,
    TOO_LARGE,
    UNPAGED,
    LdapFault,
    of_search,
)
from postern_sync.adapters.ldap.members import Members
from postern_sync.adapters.ldap.objects import Asking, Octets, octets_of, ranged, read_values
from postern_sync.adapters.ldap.session import Access, Question, Session, open_session
from postern_sync.adapters.ldap.threads import Wire, in_thread
from postern_sync.rules.entries import Entry
from postern_sync.rules.ldap_filter import combine
from postern_sync.rules.ldap_mapping import LdapMapping, Raw, primary_group, relative_identifier
from postern_sync.source import Reading, ReadReport, SourceFailed

BATCH: Final = 200
BATCH_ADDRESSES: Final = 20_000
MAX_ENTRIES: Final = 1_000_000
MAX_EMPTY_PAGES: Final = 1000
MAX_HELD: Final = 64 * 1024 * 1024  # octets of what a page leaves to be asked for again
MAX_PROBLEMS: Final = 20
MAX_NAME: Final = 200  # of a DN among the problems
MAX_REFERRALS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Section:
    """A kind of entries: how they are asked for, and what they become."""

    phase: str
    filter_text: str
    attributes: tuple[str, ...]
    to_entry: Callable[[str, Raw], Entry]


def sections_of(access: Access, mapping: LdapMapping, *, include_public_folders: bool) -> list[Section]:
    """What is read, in order: the kind's own filter and the customer's together (SPEC S11)."""
    ldap, preset = access.ldap, mapping.preset
    group_attributes = (*mapping.group_attributes, *mapping.member_attributes)
    found = [
        Section("groups", combine(preset.group_filter, ldap["group_filter"]), group_attributes, mapping.group),
        Section("users", combine(preset.user_filter, ldap["user_filter"]), mapping.user_attributes, mapping.user),
    ]
    if include_public_folders and preset.public_folder_filter is not None:
        folders = mapping.group_attributes
        found.append(Section("public_folders", preset.public_folder_filter, folders, mapping.public_folder))
    return found


class LdapSource:
    """A directory that is read over LDAP."""

    def __init__(self, access: Access, mapping: LdapMapping, *, include_public_folders: bool = False) -> None:
        self._access = access
        self._mapping = mapping
        self._sections = sections_of(access, mapping, include_public_folders=include_public_folders)

    async def read(self, reading: Reading) -> ReadReport:
        """Read it whole, in a thread."""
        wire = Wire()
        return await in_thread(lambda: self._read(reading, wire), wire)

    def _read(self, reading: Reading, wire: Wire) -> ReadReport:
        try:
            session = open_session(self._access, wire.holds)
        except LdapFault as fault:
            raise SourceFailed(fault.fault.step, fault.fault.message) from None
        try:
            return _Run(session, self._access, self._mapping, reading).whole(self._sections)
        finally:
            session.close()


@dataclass(slots=True)
class _Run:
    """One reading: what was counted, and what may be missing."""

    session: Session
    access: Access
    mapping: LdapMapping
    reading: Reading
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    more_problems: int = 0
    referrals: set[str] = field(default_factory=set)
    with_id: int = 0
    without_id: int = 0
    batch: list[Entry] = field(default_factory=list)
    batch_addresses: int = 0
    held: int = 0
    groups_by_rid: dict[int, str] = field(default_factory=dict)
    by_primary_group: dict[str, list[str]] = field(default_factory=dict)
    partial: list[tuple[str, Octets, list[str]]] = field(default_factory=list)

    def whole(self, sections: list[Section]) -> ReadReport:
        """Read section by section; a fault before anything was read is the caller's, later ones are problems."""
        at, base_readable = None, False
        try:
            at = replica.read(self._asking) if self.mapping.preset.is_ad else None
            base_readable = self._read_base()
            for section in sections:
                self._read_section(section)
            self._put_batch()
        except LdapFault as fault:
            if not self._read_any:
                raise SourceFailed(fault.fault.step, fault.fault.message) from None
            self._put_batch()
            self._problem(str(fault.fault))
        return self._report(at, base_readable=base_readable)

    def _report(self, at: replica.Replica | None, *, base_readable: bool) -> ReadReport:
        if self.more_problems:
            self.problems.append(f"more: {self.more_problems} further problems")
        return ReadReport(
            users=self.counts.get("users", 0),
            groups=self.counts.get("groups", 0),
            base_readable=base_readable,
            problems=tuple(self.problems),
            referrals=len(self.referrals),
            attribute_errors=min(self.with_id, self.without_id),
            invocation_id=at.invocation_id if at is not None else None,
            usn=at.usn if at is not None else None,
        )

    @property
    def _read_any(self) -> bool:
        return any(self.counts.values())

    @property
    def _asking(self) -> Asking:
        return Asking(self.session, self._take_references)

    def _problem(self, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)
        else:
            self.more_problems += 1

    def _read_base(self) -> bool:
        """Whether the base entry can be seen; a base that is none is the settings' fault."""
        found = self._asking.one(self.access.ldap["base_dn"], ("objectClass",))
        if found.code != SUCCESS:
            raise LdapFault(of_search(found.code))
        return found.entry is not None

    def _read_section(self, section: Section) -> None:
        members = Members(self.reading, self.mapping.member_attributes)
        page: int | None = self.access.ldap["page_size"]
        cookie, empty = b"", 0
        question = Question(self.access.ldap["base_dn"], section.filter_text, section.attributes)
        self.counts[section.phase] = 0
        self.reading.progress(phase=section.phase, read=0)
        while empty <= MAX_EMPTY_PAGES:
            before = self.counts[section.phase]
            ended = self.session.search(
                question,
                lambda found: self._take(section, members, found),
                page=page,
                cookie=cookie,
                on_references=self._take_references,
            )
            self._finish_page(section, members)
            self.reading.progress(phase=section.phase, read=self.counts[section.phase])
            if ended.code == NO_PAGING and page is not None and not cookie and not self.counts[section.phase]:
                page = None  # the server knows no pages: all at once, entry by entry all the same
                continue
            if ended.code != SUCCESS:
                raise LdapFault(of_search(ended.code))
            if page is None:
                return
            if ended.cookie is None:
                raise LdapFault(UNPAGED)
            if not ended.cookie:
                return
            cookie = ended.cookie
            empty = empty + 1 if self.counts[section.phase] == before else 0
        raise LdapFault(UNPAGED)

    def _take(self, section: Section, members: Members, found: ber.Object) -> None:
        self.counts[section.phase] += 1
        if sum(self.counts.values()) > MAX_ENTRIES:
            raise LdapFault(TOO_LARGE)
        try:
            raw = octets_of(found, members.names if section.phase == "groups" else ())
        except ber.Malformed:
            raise LdapFault(GARBLED) from None
        if section.phase == "users" and (missing := ranged(found, section.attributes)):
            self._hold(len(found.dn) + sum(len(value) for values in raw.values() for value in values))
            self.partial.append((found.dn, raw, missing))
            return
        entry = self._put(section, found.dn, raw)
        if section.phase == "groups":
            waiting = len(members.unread)
            members.take(found.dn, entry.id, found.attributes)
            if len(members.unread) > waiting:
                self._hold(len(found.dn) + len(entry.id))
            rid = relative_identifier(raw)
            if rid is not None:
                self.groups_by_rid[rid] = entry.id

    def _hold(self, octets: int) -> None:
        self.held += octets
        if self.held > MAX_HELD:
            raise LdapFault(TOO_LARGE)

    def _put(self, section: Section, dn: str, raw: Raw) -> Entry:
        entry = section.to_entry(dn, raw)
        self._count_identity(entry)
        if section.phase == "users":
            self._take_primary_group(entry, raw)
        self.batch.append(entry)
        self.batch_addresses += len(entry.aliases)
        if len(self.batch) >= BATCH or self.batch_addresses >= BATCH_ADDRESSES:
            self._put_batch()
        return entry

    def _count_identity(self, entry: Entry) -> None:
        if entry.id_kind == "dn":
            self.without_id += 1
        else:
            self.with_id += 1

    def _take_primary_group(self, entry: Entry, raw: Raw) -> None:
        rid = primary_group(raw)
        group = self.groups_by_rid.get(rid) if rid is not None else None
        if group is not None:
            self.by_primary_group.setdefault(group, []).append(entry.refs[0])

    def _put_batch(self) -> None:
        if self.batch:
            self.reading.put(self.batch)
            self.batch, self.batch_addresses = [], 0
        for group, refs in self.by_primary_group.items():
            self.reading.put_members(group, refs)
        self.by_primary_group = {}

    def _finish_page(self, section: Section, members: Members) -> None:
        """Read what did not come whole, now that the connection is free for other questions."""
        unread, members.unread, self.held = members.unread, [], 0
        for group in unread:
            if not members.read(group, self._asking.attribute(group.dn)):
                self._problem(f"members_incomplete: {_shown(group.dn)}")
        partial, self.partial = self.partial, []
        for dn, raw, missing in partial:
            whole = {name.lower(): read_values(name, self._asking.attribute(dn)) for name in missing}
            if None in whole.values():  # half of somebody's addresses would take the others away
                self._problem(f"values_incomplete: {_shown(dn)}")
            else:
                self._put(section, dn, raw | {name: values or [] for name, values in whole.items()})

    def _take_references(self, found: list[str]) -> None:
        """Count other servers' parts once, however often and with whatever filter they are named."""
        for address in found:
            if len(self.referrals) < MAX_REFERRALS:
                self.referrals.add(address.partition("?")[0].lower()[:500])


def _shown(dn: str) -> str:
    return dn if len(dn) <= MAX_NAME else dn[: MAX_NAME - 1] + "…"
