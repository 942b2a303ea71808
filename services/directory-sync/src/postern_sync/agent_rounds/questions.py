"""Questions to a directory that an agent reads: handed on to the agent, and waited for."""

import asyncio
from datetime import timedelta
from typing import Any, Final, cast

from postern_common.directory_documents import DirectoryRequestDocument, LdapDocument
from postern_common.mongo import Mongo
from postern_sync.agent_rounds.source import NOBODY, SILENT, minutes_of, read_settings
from postern_sync.agent_rounds.store import AgentStore
from postern_sync.settings import SyncSettings
from postern_sync.source import SourceFailed

Document = dict[str, Any]
LOOK_SECONDS: Final = 0.3
UNANSWERED: Final = "The agent did not answer in time."


async def answer_agent_question(question: DirectoryRequestDocument, mongo: Mongo, settings: SyncSettings) -> Document:
    """Have an agent answer. Raises `SourceFailed` where none does."""
    store = AgentStore(mongo, question["customer_id"])
    silent = timedelta(seconds=settings.sync_agent_silent_seconds)
    seen = await store.last_seen()
    if seen is None:
        raise SourceFailed("agent", NOBODY)
    if await store.now() - seen > silent:
        raise SourceFailed("agent", SILENT.format(minutes_of(silent)))
    ldap = cast(LdapDocument, question["settings"])
    asked = read_settings(ldap, include_hidden=True, include_public_folders=False)
    seconds = settings.sync_question_seconds * 0.9
    question_id = await store.put_question(question["kind"], asked, question["query"], timedelta(seconds=seconds))
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = await store.answer_of(question_id)
                if answer is not None:
                    return answer
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise SourceFailed("agent", UNANSWERED) from None
    finally:
        await store.forget_question(question_id)
