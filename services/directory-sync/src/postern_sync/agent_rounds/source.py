"""A directory that an agent reads, as a source (SPEC L4): a round is asked for, waited for, checked and folded in.

The server applies the same plan, proof and guard as to a directory that it reads itself. What an agent sent counts only
if the mirror with it comes to the digest that the agent stated over the whole directory; where it does not, everything
is sent once more, and where that does not help, the run fails and nobody is touched.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from postern_common.directory_documents import DeltaDocument, DirectoryDocument, LdapDocument
from postern_common.mongo import Mongo
from postern_sync.agent_rounds.folding import Handing, digest_of, fold
from postern_sync.agent_rounds.store import AgentStore
from postern_sync.mirror.overlay import Overlay
from postern_sync.mirror.store import Mirror
from postern_sync.settings import SyncSettings
from postern_sync.source import Reading, ReadReport, Source, SourceFailed

Document = dict[str, Any]
# What a position of an agent's stands for: its round, under whatever settings it was read.
SCOPE: Final = "agent"
NOBODY: Final = "This directory is read by an agent, and none is enrolled."
SILENT: Final = "This directory is read by an agent, and none has called for {} minutes."
TOO_SLOW: Final = "The agent did not come to the end of its reading within {} minutes."
GONE: Final = "What the agent was sending was given up."
DIFFERENT: Final = "What the agent sent does not come to what it says is in the directory."
_NAMES: Final = (
    "preset", "base_dn", "user_filter", "group_filter", "attributes", "primary_from_upn", "page_size",
)  # fmt: skip

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long agents may be silent, how long a round may take, and how often is looked."""

    silent: timedelta
    whole: timedelta
    look_seconds: float


def read_settings(ldap: LdapDocument, *, include_hidden: bool, include_public_folders: bool) -> Document:
    """What an agent is to read by: no host, no account, no secret."""
    found: Document = {name: ldap[name] for name in _NAMES}
    return found | {"include_hidden": include_hidden, "include_public_folders": include_public_folders}


class AgentSource:
    """The directory of one customer, read by its agents; `keeps` False leaves the mirror as it is."""

    def __init__(
        self,
        directory: DirectoryDocument,
        mirror: Mirror,
        store: AgentStore,
        patience: Patience,
        *,
        keeps: bool = True,
        scratch: Path | None = None,
    ) -> None:
        self._directory = directory
        self._mirror = mirror
        self._store = store
        self._patience = patience
        self._scratch = scratch
        self._keeps = keeps

    async def read(self, reading: Reading) -> ReadReport:
        """Have the agent read it, and hand it over."""
        ldap = self._directory["ldap"]
        if ldap is None:
            raise SourceFailed("name", "LDAP is not set up.")
        settings = read_settings(
            ldap,
            include_hidden=self._directory["include_hidden"],
            include_public_folders=self._directory["include_public_folders"],
        )
        run_id, base = await self._store.run_under_way(), await self._base()
        while True:
            found = await self._finished(run_id, base, settings, reading)
            report = await self._take(found, reading)
            await self._store.drop(found["_id"])
            if report is not None:
                return report
            log.warning("agent_digest_differs", is_full=found["is_full"])
            if found["is_full"]:
                raise SourceFailed("agent", DIFFERENT)
            base = None

    async def _base(self) -> str | None:
        """The round that the mirror stands at; a mirror that is gone stands at none."""
        delta = self._directory["delta"]
        if delta is None or delta["scope_hash"] != SCOPE or not await self._mirror.is_begun():
            return None
        return delta["users_link"]

    async def _finished(self, run_id: str, base: str | None, settings: Document, reading: Reading) -> Document:
        """The round of this run once the agent has finished it."""
        found = await self._store.of_run(run_id)
        if found is None or found["settings"] != settings:
            if await self._store.last_seen() is None:
                raise SourceFailed("agent", NOBODY)
            found = await self._store.ask(run_id, base, settings)
        give_up = time.monotonic() + self._patience.whole.total_seconds()
        while found["state"] in {"asked", "open"}:
            reading.progress(phase="agent", read=found["entries"])
            await self._check_patience(found, give_up)
            await asyncio.sleep(self._patience.look_seconds * random.uniform(0.75, 1.25))
            again = await self._store.look(found["_id"])
            if again is None:
                raise SourceFailed("agent", GONE)
            found = again
        if found["state"] == "failed":
            await self._store.drop(found["_id"])
            raise SourceFailed(found["failure"]["step"], found["failure"]["message"])
        return found

    async def _check_patience(self, found: Document, give_up: float) -> None:
        seen = await self._store.last_seen()
        message = None
        if seen is None:
            message = NOBODY
        elif await self._store.now() - max(seen, found["moved_at"], found["asked_at"]) > self._patience.silent:
            message = SILENT.format(minutes_of(self._patience.silent))
        elif time.monotonic() > give_up:
            message = TOO_SLOW.format(minutes_of(self._patience.whole))
        if message is not None:
            await self._store.drop(found["_id"])
            raise SourceFailed("agent", message)

    async def _take(self, found: Document, reading: Reading) -> ReadReport | None:
        """Hand over the mirror with what was sent; None where that is not what the agent has."""
        statement = found["statement"]

        def alive() -> None:
            reading.progress(phase="agent", read=found["entries"])

        overlay = Overlay(self._mirror, self._scratch)
        try:
            await fold(self._store, found, overlay, alive)
            digest = await digest_of(overlay, alive)
            if (digest.records, digest.text) != (statement["records"], statement["digest"]):
                return None
            handing = Handing(reading)
            async for batch in overlay.stream():
                await asyncio.to_thread(handing.hand, batch)
            if self._keeps:
                await self._keep(found, overlay, alive)
        finally:
            overlay.close()
        report = statement["report"]
        return ReadReport(
            users=handing.users,
            groups=handing.groups,
            base_readable=report["base_readable"],
            problems=tuple(report["problems"]),
            referrals=report["referrals"],
            attribute_errors=report["attribute_errors"],
            invocation_id=report["invocation_id"],
            usn=report["usn"],
            place=statement["place"],
        )

    async def _keep(self, found: Document, overlay: Overlay, alive: Callable[[], None]) -> None:
        now, before = await self._store.now(), self._directory["delta"]
        is_full = found["is_full"] or before is None
        delta = DeltaDocument(
            users_link=found["_id"],
            groups_link=None,
            at=now,
            full_round_at=now if is_full or before is None else before["full_round_at"],
            scope_hash=SCOPE,
        )
        await overlay.store(found["_id"], delta, alive)


def minutes_of(span: timedelta) -> int:
    """A span for people."""
    return max(1, round(span.total_seconds() / 60))


def patience_of(settings: SyncSettings) -> Patience:
    """What the settings say."""
    return Patience(
        timedelta(seconds=settings.sync_agent_silent_seconds),
        timedelta(seconds=settings.sync_agent_round_seconds),
        settings.sync_poll_seconds,
    )


def make_agent_source(directory: DirectoryDocument, mongo: Mongo, settings: SyncSettings, *, keeps: bool) -> Source:
    """The directory of a customer that an agent reads; `keeps` False leaves the mirror as it is, for previews."""
    customer_id = directory["customer_id"]
    mirror = Mirror(mongo, customer_id, "agent")
    store = AgentStore(mongo, customer_id)
    patience = patience_of(settings)
    return AgentSource(directory, mirror, store, patience, keeps=keeps, scratch=settings.sync_scratch_dir)
