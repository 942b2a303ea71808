"""A Microsoft Entra tenant as a source: the mirror is brought up to date, then handed over whole (SPEC E2).

Whoever is in the mirror is there as far as Graph said, so a run misses nobody because a page failed: a reading that
breaks is told as a problem, is not kept, and marks nobody absent.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from postern_common.directory_documents import DeltaDocument, EntraDocument
from postern_common.ids import new_id
from postern_sync.adapters.entra.beat import Beat
from postern_sync.adapters.entra.delta import GROUPS, USERS, Rounds
from postern_sync.adapters.entra.graph import HURRY, Graph, GraphFault, failed
from postern_sync.adapters.entra.listing import Listing
from postern_sync.adapters.entra.tenant import Tenant
from postern_sync.mirror.overlay import Overlay
from postern_sync.mirror.store import Mirror, Mirrored
from postern_sync.rules import graph_mapping as mapping
from postern_sync.rules.entries import Entry
from postern_sync.rules.graph_rounds import GROUP, MEMBER, USER, goes_on, scope_of
from postern_sync.rules.graph_words import secret_end
from postern_sync.source import Reading, ReadReport, SourceFailed

NO_STATES: Final = "attributes: whether accounts are enabled could not be read of any user"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Following:
    """Where reading went on, and under which rules it does."""

    delta: DeltaDocument | None
    interval: timedelta
    keeps: bool


class EntraSource:
    """Reads one tenant. `managed` are the customer's domains; None has them looked up."""

    def __init__(
        self, tenant: Tenant, mirror: Mirror, following: Following, managed: frozenset[str] | None = None
    ) -> None:
        self._tenant = tenant
        self._mirror = mirror
        self._following = following
        self._managed = managed

    async def read(self, reading: Reading) -> ReadReport:
        """Bring the mirror up to date and hand it over."""
        managed = self._managed if self._managed is not None else await self._mirror.managed_domains()
        now = await self._mirror.now()
        overlay = Overlay(self._mirror, self._tenant.scratch_dir)
        try:
            beat = Beat(reading)
            async with self._tenant.graph(beat.again) as graph:
                problems = await self._follow(graph, overlay, beat, now)
            return await _Handing(overlay, reading, managed).whole(problems)
        finally:
            overlay.close()

    async def _follow(self, graph: Graph, overlay: Overlay, beat: Beat, now: datetime) -> tuple[str, ...]:
        """Read what changed, and keep it where it was read to the end; what is missing."""
        entra = self._tenant.entra
        scope = scope_of(entra)
        stored = self._following.delta
        is_good = goes_on(stored, scope, now, self._following.interval) and await self._mirror.is_begun()
        delta = stored if is_good else None
        rounds = Rounds(graph, overlay, beat)
        listing = Listing(graph, overlay, beat, entra["user_filter"], now) if entra["user_filter"] else None
        try:
            users_link = None
            if listing is not None:
                await listing.whole(is_same_question=stored is not None and stored["scope_hash"] == scope)
            else:
                users_link = await rounds.follow(USERS, delta["users_link"] if delta else None)
            groups_link = await rounds.follow(GROUPS, delta["groups_link"] if delta else None)
        except GraphFault as fault:
            is_begun = rounds.read or (listing is not None and listing.read)
            if fault.kind == "permission" or not is_begun:
                raise failed(fault, refused="filter" if listing is not None else "connect") from None
            log.warning("directory_incomplete", reason=fault.kind)
            return (str(fault),)
        is_full = rounds.was_whole >= ({GROUPS.phase} if listing is not None else {USERS.phase, GROUPS.phase})
        if self._following.keeps:
            full_round_at = now if is_full or delta is None else delta["full_round_at"]
            await overlay.store(
                new_id("run"),
                DeltaDocument(
                    users_link=users_link,
                    groups_link=groups_link,
                    at=now,
                    full_round_at=full_round_at,
                    scope_hash=scope,
                ),
                beat.again,
            )
            await self._note_secret(graph, entra, now)
        return ()

    async def _note_secret(self, graph: Graph, entra: EntraDocument, now: datetime) -> None:
        """Note when the secret ends, where the application may read that of itself (SPEC E3)."""
        sealed, secret = entra["client_secret"], self._tenant.credential.secret
        if sealed is None or secret is None or self._tenant.credential.certificate is not None:
            return
        address = graph.address(f"/applications(appId='{entra['client_id']}')", select="passwordCredentials")
        try:
            found = await graph.get(address, patience=HURRY)
        except (GraphFault, SourceFailed) as fault:
            log.info("secret_end_unknown", reason=fault.message)
            return
        ends_at = secret_end(found.get("passwordCredentials"), secret, now)
        if ends_at is not None:
            await self._mirror.note_secret_end(sealed, ends_at)


class _Handing:
    """Hands the mirror, with what was read, over to the run."""

    def __init__(self, overlay: Overlay, reading: Reading, managed: frozenset[str]) -> None:
        self._overlay = overlay
        self._reading = reading
        self._managed = managed
        self._users = 0
        self._groups = 0
        self._with_state = 0

    async def whole(self, problems: tuple[str, ...]) -> ReadReport:
        """All entries and members; the report."""
        async for batch in self._overlay.stream():
            await asyncio.to_thread(self._hand, batch)
        if self._users and not self._with_state:
            problems = (*problems, NO_STATES)
        return ReadReport(users=self._users, groups=self._groups, problems=problems)

    def _hand(self, batch: list[Mirrored]) -> None:
        self._reading.put(list(self._entries(batch)))
        members: dict[str, list[str]] = {}
        for found in batch:
            if found.external_id.startswith(MEMBER):
                group_id, _, member_id = found.external_id.removeprefix(MEMBER).partition(":")
                members.setdefault(group_id, []).append(member_id)
        for group_id, refs in members.items():
            self._reading.put_members(group_id, refs)
        self._reading.progress(phase="entries", read=self._users + self._groups)

    def _entries(self, batch: list[Mirrored]) -> Iterable[Entry]:
        for found in batch:
            kind, _, entry_id = found.external_id.partition(":")
            if kind == USER[:-1]:
                if found.removed is None:
                    self._users += 1
                    self._with_state += isinstance(found.object.get("accountEnabled"), bool)
                yield mapping.user_entry(entry_id, found.object, found.removed, self._managed)
            elif kind == GROUP[:-1] and mapping.takes_mail(found.object):
                self._groups += found.removed is None
                yield mapping.group_entry(entry_id, found.object, found.removed, self._managed)
