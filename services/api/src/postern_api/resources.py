"""What the routes' services share, made once in `app.py`: settings, the database, keys, ways to the world."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from fastapi import Request

from postern_api.agents.limits import Rates, Room
from postern_api.auth.passwords import Passwords
from postern_api.settings import ApiSettings
from postern_common import outbox
from postern_common.events import Event
from postern_common.mongo import Mongo, Session
from postern_common.secrets import SecretBox

if TYPE_CHECKING:
    from postern_api.sites.probe import Prober

SERVICE: Final = "api"
# What each transaction of the request under way writes beside its change: see `http/idempotency.py`.
beside: ContextVar["Callable[[Session], Awaitable[None]] | None"] = ContextVar("beside", default=None)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resources:
    """The shared parts; `kick` wakes the relay that publishes committed events.

    `verifications` counts, for each customer, the requests that wait here for a verifier's answer, `questions` those
    that wait for a directory's; `agent_rates` counts how often agents call, `agent_room` what they use at a time;
    `workbooks` bounds how many are written at once.
    """

    settings: ApiSettings
    mongo: Mongo
    secrets: SecretBox
    passwords: Passwords
    prober: "Prober"
    kick: Callable[[], None]
    verifications: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    agent_rates: Rates = field(default_factory=Rates)
    agent_room: Room = field(default_factory=Room)
    workbooks: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        """What the settings bound."""
        object.__setattr__(self, "workbooks", asyncio.Semaphore(self.settings.api_max_exports))

    def now(self) -> datetime:
        """The time by this machine, as fine as the database keeps it."""
        return _to_milliseconds(self.mongo.clock.now())

    async def database_now(self) -> datetime:
        """The time by which due things are decided."""
        return _to_milliseconds(await self.mongo.now())

    async def transact(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run `work` in one transaction, then have its events published."""
        also = beside.get()

        async def whole(session: Session) -> T:
            result = await work(session)
            if also is not None:
                await also(session)
            return result

        result = await self.mongo.transact(whole)
        self.kick()
        return result

    async def emit(self, session: Session, event: Event) -> None:
        """Add `event` to the transaction of the change that it tells of (SPEC V3)."""
        await outbox.append(self.mongo, session, event, service=SERVICE)


def _to_milliseconds(at: datetime) -> datetime:
    # MongoDB keeps no more: what is answered now must be what is read later.
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def resources_of(request: Request) -> Resources:
    """The application's shared parts."""
    found: Resources = request.app.state.resources
    return found
