"""A look at a directory's entries, for choosing those that are to be left out (SPEC S12)."""

import time
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from postern_common.directory_documents import LdapDocument
from postern_common.ldap_filter import FilterError
from postern_common.netguard import NetGuard
from postern_sync.adapters.ldap import ber
from postern_sync.adapters.ldap.faults import SUCCESS, LdapFault, of_search
from postern_sync.adapters.ldap.objects import octets_of
from postern_sync.adapters.ldap.reader import Section, sections_of
from postern_sync.adapters.ldap.session import Access, Bounds, Question, Session, open_session
from postern_sync.adapters.ldap.threads import Wire, in_thread
from postern_sync.rules.entries import Entry
from postern_sync.rules.ldap_filter import any_contains, combine
from postern_sync.rules.ldap_mapping import LdapMapping
from postern_sync.source import SourceFailed

MAX_PAGES: Final = 20
MAX_PAGE: Final = 32 * 1024 * 1024
MAX_ALIASES: Final = 100  # shown of one entry
MAX_NAME: Final = 1000  # of an id that an exception can name, and shown of a DN
_NAMES: Final = ("cn", "displayName", "givenName", "sn", "uid", "sAMAccountName")


async def browse(
    ldap: LdapDocument,
    password: str,
    guard: NetGuard,
    mapping: LdapMapping,
    query: dict[str, Any],
    *,
    seconds: float,
) -> dict[str, Any]:
    """Entries that match a search, as the API shows them. Raises `SourceFailed`."""
    access = Access(ldap, password, guard, time.monotonic() + seconds)
    wire = Wire()
    return await in_thread(lambda: _browse(access, mapping, query, wire), wire)


def _browse(access: Access, mapping: LdapMapping, query: dict[str, Any], wire: Wire) -> dict[str, Any]:
    kind, search, limit = str(query["kind"]), str(query["search"] or ""), int(query["limit"])
    found: list[dict[str, Any]] = []
    is_whole = True
    try:
        groups, users = sections_of(access, mapping, include_public_folders=False)
        wanted = {"user": [users], "group": [groups], "alias": [users, groups]}[kind]
        session = open_session(access, wire.holds)
    except FilterError as error:
        raise SourceFailed("filter", f"The filter cannot be read: {error}.") from None
    except LdapFault as fault:
        raise SourceFailed(fault.fault.step, fault.fault.message) from None
    try:
        for section in wanted:
            is_whole = _collect(session, access, _Look(section, mapping, kind, search), found, limit) and is_whole
    except LdapFault as fault:
        if not found:
            raise SourceFailed(fault.fault.step, fault.fault.message) from None
        is_whole = False
    finally:
        session.close()
    found.sort(key=lambda item: (str(item["address"] or "").casefold(), item["name"]))
    return {"ok": True, "entries": found[:limit], "truncated": len(found) > limit or not is_whole}


class _Look:
    """What is looked for among one kind of entries."""

    def __init__(self, section: Section, mapping: LdapMapping, kind: str, search: str) -> None:
        addresses = (*mapping.names("mail"), *mapping.names("proxy_addresses"), *mapping.names("aliases"))
        searched = addresses if kind == "alias" else (*_NAMES, *addresses)
        names = {name.lower() for name in mapping.member_attributes}
        self.attributes = tuple(name for name in section.attributes if name.lower() not in names)
        self.filter_text = combine(section.filter_text, any_contains(searched, search))
        self._section = section
        self._kind = kind
        self._search = search.casefold()

    def items(self, found: ber.Object) -> Iterable[dict[str, Any]]:
        """What an entry adds to the answer."""
        entry = self._section.to_entry(found.dn, octets_of(found))
        if len(entry.id) > MAX_NAME or "\0" in entry.id:  # one such must not cost the others their answer
            return
        if self._kind != "alias":
            yield _item(entry, self._kind, entry.primary.address if entry.primary else None)
            return
        for alias in entry.aliases:
            if self._search in alias.address.casefold():
                yield _item(entry, "alias", alias.address)


def _collect(session: Session, access: Access, look: _Look, found: list[dict[str, Any]], limit: int) -> bool:
    """Take entries page by page until there are more than wanted; whether these were all."""
    question = Question(access.ldap["base_dn"], look.filter_text, look.attributes)
    page = min(access.ldap["page_size"], limit + 1)
    cookie, bounds = b"", Bounds(page, MAX_PAGE)

    def take(entry: ber.Object) -> None:
        found.extend(islice(look.items(entry), limit + 1 - len(found)))

    for _ in range(MAX_PAGES):
        ended = session.search(question, take, page=page, cookie=cookie, bounds=bounds)
        if ended.code != SUCCESS:
            raise LdapFault(of_search(ended.code))
        if not ended.cookie:
            return True
        if len(found) > limit:
            return False
        cookie = ended.cookie
    return False


def _item(entry: Entry, kind: str, address: str | None) -> dict[str, Any]:
    return {
        "external_id": entry.id,
        "kind": kind,
        "name": entry.name.replace("\0", " ")[:MAX_NAME],
        "address": address,
        "aliases": [alias.address for alias in entry.aliases[:MAX_ALIASES]],
    }
