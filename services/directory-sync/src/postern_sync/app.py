"""Puts directory synchronisation together: the one place that knows the concrete parts."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from postern_common.bus import Bus
from postern_common.clock import Clock
from postern_common.mongo import Document, Mongo
from postern_common.outbox import OutboxRelay
from postern_common.runtime import Runtime, Work
from postern_common.secrets import SecretBox
from postern_common.telemetry import configure_logging
from postern_sync.discovery.loop import Discovery
from postern_sync.engine import Engine, MakeSource
from postern_sync.handlers import Handlers
from postern_sync.questions.loop import Questions
from postern_sync.questions.store import QuestionStore
from postern_sync.runs.documents import SERVICE
from postern_sync.runs.purge import Purge
from postern_sync.runs.runner import Runner
from postern_sync.runs.store import RunStore
from postern_sync.schedule.credentials import Credentials
from postern_sync.schedule.loop import Schedule
from postern_sync.schedule.store import DirectoryStore
from postern_sync.settings import SyncSettings
from postern_sync.sources import Sources


class Directories(MakeSource, Protocol):
    """What reads directories and answers questions to them."""

    async def answer(self, question: Document) -> Document:
        """Answer a question."""


def assemble(settings: SyncSettings, directories: Directories | None = None) -> Runtime:
    """Connect the parts and hand them to a runtime. Nothing is reached yet."""
    mongo = Mongo.connect(settings, Clock(settings.test_clock), application=SERVICE)
    if directories is None:
        directories = Sources(settings, SecretBox.from_text(settings.secret_key_text()), mongo)
    runs, stored = RunStore(mongo), DirectoryStore(mongo)
    runner = Runner(
        runs,
        Engine(mongo, settings, directories),
        concurrency=settings.sync_concurrency,
        poll_seconds=settings.sync_poll_seconds,
        lease=timedelta(seconds=settings.sync_lease_seconds),
        attempts=settings.sync_attempts,
    )
    schedule = Schedule(stored, runs, poll_seconds=settings.sync_poll_seconds)
    credentials = Credentials(stored)
    questions = Questions(
        QuestionStore(mongo),
        directories.answer,
        concurrency=settings.sync_questions,
        seconds=settings.sync_question_seconds,
    )
    discovery = Discovery(mongo)
    handlers = Handlers(runs, stored, runner.wake)
    bus = Bus(settings.amqp_url.get_secret_value(), SERVICE, mongo, handlers.table())
    relay = OutboxRelay(mongo, bus)
    handlers.on_answer = runner.on_commit = schedule.on_commit = credentials.on_commit = relay.kick
    discovery.on_commit = relay.kick
    schedule.on_run = runner.wake

    async def close() -> None:
        mongo.close()

    runtime = Runtime(SERVICE, settings)
    prepared = Prepared(mongo)
    for name, work in (
        ("bus", bus.run),
        ("runner", runner.run),
        ("schedule", schedule.run),
        ("credentials", credentials.run),
        ("questions", questions.run),
        ("discovery", discovery.run),
        ("purge", Purge(runs, stored, days=settings.sync_runs_days).run),
    ):
        runtime.add_task(name, prepared.before(work))
    runtime.add_task("outbox", relay.run)
    runtime.add_check("database", mongo.ping)
    runtime.add_check("broker", bus.check)
    runtime.add_check("clock", schedule.check_clock)
    runtime.on_drain("schedule", schedule.drain)
    runtime.on_drain("runs", runner.drain)
    runtime.on_drain("questions", questions.drain)
    runtime.on_drain("events", bus.drain)
    runtime.on_close(close)
    return runtime


class Prepared:
    """Has tasks wait until the database has its indexes, which the locks of this service are made of."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._lock = asyncio.Lock()
        self._is_done = False

    def before(self, work: Callable[[], Awaitable[None]]) -> Work:
        """`work`, once everything is there."""

        async def prepared() -> None:
            async with self._lock:
                if not self._is_done:
                    await self._mongo.prepare()
                    self._is_done = True
            await work()

        return prepared


async def serve(settings: SyncSettings) -> int:
    """Run until stopped; the exit status."""
    return await assemble(settings).run()


def run(settings: SyncSettings) -> int:
    """Run the service; the process's exit status."""
    configure_logging(SERVICE, settings.log_level)
    return asyncio.run(serve(settings))
