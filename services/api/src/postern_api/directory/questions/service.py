"""Questions to a directory: put for directory-sync, which can reach it, and waited for.

A question carries the settings to use, its secrets sealed for its own place, and is removed with its answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Literal

from postern_api.directory.questions.schemas import EntryQuery, to_test
from postern_api.directory.questions.store import QuestionStore
from postern_api.directory.refusals import not_configured, switched_off
from postern_api.directory.settings.credentials import check_usable
from postern_api.directory.settings.schemas import DirectoryInput
from postern_api.directory.settings.service import NAMES, Directories
from postern_api.directory.waiting import first_of
from postern_api.http.problems import Problem, conflict, invalid, rate_limited
from postern_api.tenancy import Tenant
from postern_common.errors import Temporary
from postern_common.ids import new_id

Document = dict[str, Any]
RETRY_SECONDS: Final = 10
GRACE: Final = timedelta(seconds=5)


class Questions:
    """What one customer asks of a directory."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = QuestionStore(tenant.resources.mongo, tenant.scope)
        self._directories = Directories(tenant)

    async def test(self, body: DirectoryInput | None) -> Document:
        """Try settings, or the stored ones (SPEC L1, E1)."""
        present = await self._directories.find()
        if body is None:
            if present is None:
                raise not_configured()
            return await self._ask_stored("test", present, {})
        part = self._directories.part(body, body.provider, present)
        if part is None:
            raise invalid(f"Settings of {NAMES[body.provider]} are needed.", f"/{body.provider}")
        return await self._ask("test", body.provider, part, {})

    async def entries(self, query: EntryQuery) -> Document:
        """Look at entries of the directory that is set up."""
        present = await self._directories.find()
        if present is None:
            raise not_configured()
        wanted = {"search": (query.search or "").strip(), "kind": query.kind, "limit": query.limit}
        answer = await self._ask_stored("browse", present, wanted)
        if not answer.get("ok", True):
            raise _unreadable(answer)
        return answer

    async def _ask_stored(self, kind: Literal["test", "browse"], present: Document, query: Document) -> Document:
        provider = present["provider"]
        try:
            check_usable(provider, present[provider])
        except Problem:
            if not present["enabled"]:  # that forgot the secret
                raise switched_off() from None
            raise
        return await self._ask(kind, provider, present[provider], query)

    async def _ask(self, kind: Literal["test", "browse"], provider: str, part: Document, query: Document) -> Document:
        check_usable(provider, part)
        seconds = self._resources.settings.api_directory_wait_seconds
        with self._one_more():
            now = await self._resources.database_now()
            question_id = new_id("req")
            place = f"directory_requests/{question_id}"
            question: Document = {
                "_id": question_id,
                "kind": kind,
                "provider": provider,
                "settings": self._directories.credentials.moved(provider, part, place),
                "query": query,
                "state": "asked",
                "answer": None,
                "lease_owner": None,
                "lease_until": None,
                "created_at": now,
                "expires_at": now + timedelta(seconds=seconds) + GRACE,
            }
            try:
                await self._store.ask(question)
                answer = await first_of(lambda: self._store.answer(question_id), seconds)
            finally:
                await self._store.forget(question_id)
        if answer is None:
            raise Temporary("directory-sync did not answer a question", timedelta(seconds=RETRY_SECONDS))
        return answer

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """Hold a place for one question; 429 where none is free."""
        waiting, limit = self._resources.questions, self._resources.settings.api_max_directory_questions
        customer_id = self._tenant.customer_id
        if waiting[customer_id] >= limit:
            raise rate_limited(f"{limit} questions to the directory wait for their answers already.", RETRY_SECONDS)
        waiting[customer_id] += 1
        try:
            yield
        finally:
            waiting[customer_id] -= 1
            if not waiting[customer_id]:
                del waiting[customer_id]


def _unreadable(answer: Document) -> Problem:
    """The refusal of a look that did not come as far as entries; the step that failed tells why."""
    steps = to_test(answer).model_dump(mode="json")["steps"]
    why = steps[-1]["detail"] if steps else "It gave no reason."
    return conflict("directory-unreadable", f"The directory could not be read. {why}", steps=steps)
