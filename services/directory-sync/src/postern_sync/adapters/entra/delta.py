"""Reads what changed of users and groups, or the whole, into an overlay of the mirror (SPEC E2, BEHAVIOURS 3.7).

Pages are followed to the end, empty ones too. Objects come in any order, several times, in part; the last word counts.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from postern_sync.adapters.entra.beat import Beat
from postern_sync.adapters.entra.graph import Graph, GraphFault, Json
from postern_sync.mirror.overlay import Overlay
from postern_sync.mirror.store import Mirrored
from postern_sync.rules import graph_mapping as mapping
from postern_sync.rules.graph_rounds import GROUP, MEMBER, USER

NEXT: Final = "@odata.nextLink"
DELTA: Final = "@odata.deltaLink"
MAX_PAGES: Final = 100_000
RESTARTS: Final = 2


@dataclass(frozen=True, slots=True)
class Section:
    """A kind of objects: where their changes are, what is asked of them, and what a whole one has for sure."""

    phase: str
    path: str
    prefix: str
    select: tuple[str, ...]
    asked: tuple[str, ...]
    always: str


USERS: Final = Section("users", "/users/delta", USER, mapping.USER_SELECT, mapping.USER_SELECT, "userPrincipalName")
GROUPS: Final = Section(
    "groups", "/groups/delta", GROUP, mapping.GROUP_SELECT, (*mapping.GROUP_SELECT, "members"), "displayName"
)


class Rounds:
    """Reads sections of one tenant. `read` counts the objects that came."""

    def __init__(self, graph: Graph, overlay: Overlay, beat: Beat) -> None:
        self._graph = graph
        self._overlay = overlay
        self._beat = beat
        self.read = 0
        self.was_whole: set[str] = set()

    async def follow(self, section: Section, link: str | None) -> str:
        """Read a section from `link` on, or whole; where reading goes on. Raises `GraphFault`.

        A link that is known no more has the section read whole. The place that such an answer names is not used: it
        says no more than beginning anew does.
        """
        for restart in range(RESTARTS + 1):
            try:
                return await self._to_end(section, link)
            except GraphFault as fault:
                if fault.kind != "expired" or restart == RESTARTS:
                    raise
            link = None
            for prefix in _prefixes(section):
                self._overlay.forget(prefix)
        raise AssertionError("unreachable")

    async def _to_end(self, section: Section, link: str | None) -> str:
        is_whole = link is None
        address = link or self._graph.address(section.path, select=",".join(section.asked))
        for _ in range(MAX_PAGES):
            page = await self._graph.get(address)
            await self._take(section, page, is_whole=is_whole)
            following = page.get(NEXT)
            if isinstance(following, str) and following != address:
                address = following
                continue
            end = page.get(DELTA)
            if not isinstance(end, str):
                raise GraphFault("garbled", "A page says neither that it is the last nor where the next one is.")
            if is_whole:
                for prefix in _prefixes(section):
                    self._overlay.sweep(prefix)
                self.was_whole.add(section.phase)
            return end
        raise GraphFault("garbled", "There is no end to the pages.")

    async def _take(self, section: Section, page: Json, *, is_whole: bool) -> None:
        found = list(objects_of(page))
        known = await self._overlay.find([section.prefix + one["id"] for one in found])
        seen = await self._overlay.seen(list(known)) if is_whole else set()
        now: dict[str, Mirrored] = {}
        for one in found:
            key = section.prefix + one["id"]
            before = now.get(key) or known.get(key)
            if before is None and not is_whole and section.always not in one and mapping.removal(one) is None:
                # A part of something that the mirror should have and has not: it cannot be gone on from.
                raise GraphFault("expired", "What is kept of the directory is not what its changes are of.")
            is_anew = is_whole and key not in now and key not in seen
            now[key] = _changed(key, section, before, one, is_anew=is_anew)
        await self._overlay.put(now.values())
        if section is GROUPS:
            await self._take_members(found)
        self.read += len(found)
        self._beat.tell(section.phase, self.read)

    async def _take_members(self, groups: list[Json]) -> None:
        """Whom groups gained and lost; of a member that comes several times the last word counts."""
        joined: dict[str, bool] = {}
        for group in groups:
            members = group.get(mapping.MEMBERS)
            for member in members if isinstance(members, list) else ():
                if not isinstance(member, Mapping) or not isinstance(member.get("id"), str):
                    continue
                if member.get("@odata.type", "#microsoft.graph.user") in mapping.MEMBER_TYPES:
                    joined[f"{MEMBER}{group['id']}:{member['id']}"] = mapping.REMOVED not in member
        objects = [Mirrored(key, {}) for key, is_in in joined.items() if is_in]
        await self._overlay.put(objects, [key for key, is_in in joined.items() if not is_in])


def objects_of(page: Json) -> list[Json]:
    """The objects of a page that have an id."""
    found = page.get("value")
    if not isinstance(found, list):
        raise GraphFault("garbled", "A page of Microsoft Graph cannot be read.")
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("id"), str) and one["id"]]


async def pages_of(graph: Graph, address: str, headers: Mapping[str, str]) -> AsyncIterator[list[Json]]:
    """The pages of a list, which ends where no next one is named."""
    for _ in range(MAX_PAGES):
        page = await graph.get(address, headers)
        yield objects_of(page)
        following = page.get(NEXT)
        if not isinstance(following, str):
            return
        if following == address:
            raise GraphFault("garbled", "A page names itself as the next one.")
        address = following
    raise GraphFault("garbled", "There is no end to the pages.")


def _changed(key: str, section: Section, before: Mirrored | None, found: Json, *, is_anew: bool) -> Mirrored:
    """An object as it is now."""
    removed = mapping.removal(found)
    known = before.object if before is not None else None
    if removed is not None:
        return Mirrored(key, mapping.merged(known, found, section.select), removed)
    make = mapping.whole if is_anew else mapping.merged
    return Mirrored(key, make(known, found, section.select))


def _prefixes(section: Section) -> tuple[str, ...]:
    return (GROUP, MEMBER) if section is GROUPS else (section.prefix,)


def plain(mirrored: Mirrored) -> dict[str, Any]:
    """An object's properties without what is noted of it here."""
    return {name: value for name, value in mirrored.object.items() if not name.startswith("@")}
