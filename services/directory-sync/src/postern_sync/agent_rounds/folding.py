"""From an agent's pages to the mirror's objects, and from the mirror to what a run reads.

What comes from another machine is checked here once more, whatever let it in: addresses are parsed anew, and what
cannot be read ends the reading before anything counted.
"""

import asyncio
import json
import zlib
from collections.abc import Callable
from typing import Any, Final

from postern_sync.agent_rounds.store import AgentStore
from postern_sync.mirror.overlay import Overlay
from postern_sync.mirror.store import Mirrored
from postern_sync.rules.agent_records import (
    ENTRY,
    MEMBER,
    PRESENT,
    Digest,
    canonical,
    entry_hash,
    entry_key,
    member_key,
)
from postern_sync.rules.entries import Entry
from postern_sync.source import Reading, SourceFailed

Document = dict[str, Any]
MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
GARBLED: Final = "The agent sent something that cannot be read."
_GZIP: Final = 16 + zlib.MAX_WBITS
_GROUPS: Final = frozenset({"list", "public_folder"})


async def fold(store: AgentStore, found: Document, overlay: Overlay, alive: Callable[[], None]) -> None:
    """Lay the pages of a finished round over the mirror."""
    count = 0
    async for packed in store.pages(found):
        alive()
        try:
            objects, gone = await asyncio.to_thread(lambda data: _changes(_unpacked(data)), packed)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SourceFailed("agent", GARBLED) from None
        await overlay.put(objects, gone)
        count += 1
    if count != found["pages"]:
        raise SourceFailed("agent", GARBLED)
    if found["is_full"]:
        overlay.sweep(ENTRY)
        overlay.sweep(MEMBER)


def _unpacked(packed: bytes) -> Document:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(packed, MAX_PAGE_BYTES)
    except zlib.error:
        raise ValueError("no gzip") from None
    if not unpacker.eof:
        raise ValueError("larger than any page")
    page: Document = json.loads(plain)
    return page


def _changes(page: Document) -> tuple[list[Mirrored], list[str]]:
    objects: list[Mirrored] = []
    for entry in page.get("entries", ()):
        Entry.from_json(entry)
        objects.append(Mirrored(entry_key(entry["id"]), entry))
    gone = [entry_key(entry_id) for entry_id in page.get("removed", ())]
    for change in page.get("members", ()):
        group_id = change["group_id"]
        added = change.get("added", ())
        objects += [Mirrored(member_key(group_id, ref), {"group_id": group_id, "ref": ref}) for ref in added]
        gone += [member_key(group_id, ref) for ref in change.get("removed", ())]
    return objects, gone


async def digest_of(overlay: Overlay, alive: Callable[[], None]) -> Digest:
    """What the mirror with a round's changes comes to."""
    digest = Digest()
    async for batch in overlay.stream():
        alive()
        for found in batch:
            is_entry = found.external_id.startswith(ENTRY)
            digest.add(found.external_id, entry_hash(canonical(found.object)) if is_entry else PRESENT)
    return digest


class Handing:
    """Hands the mirror with a round's changes over to a run, and counts."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.users = 0
        self.groups = 0

    def hand(self, batch: list[Mirrored]) -> None:
        """Hand a batch over; may be called in a thread."""
        entries: list[Entry] = []
        members: dict[str, list[str]] = {}
        for found in batch:
            if found.external_id.startswith(ENTRY):
                entries.append(Entry.from_json(found.object))
            else:
                members.setdefault(found.object["group_id"], []).append(found.object["ref"])
        groups = sum(entry.kind in _GROUPS for entry in entries)
        self.groups += groups
        self.users += len(entries) - groups
        if entries:
            self._reading.put(entries)
        for group_id, refs in members.items():
            self._reading.put_members(group_id, refs)
        self._reading.progress(phase="entries", read=self.users + self.groups)
