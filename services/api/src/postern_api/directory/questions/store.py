"""Stored questions of one customer to a directory; directory-sync answers them."""

from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import Mongo, TenantScope

Document = dict[str, Any]


class QuestionStore:
    """The customer's questions."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._questions = mongo.collection(Collections.DIRECTORY_REQUESTS, scope)

    async def ask(self, document: Document) -> None:
        """Put a question."""
        await self._questions.insert_one(document)

    async def answer(self, question_id: str) -> Document | None:
        """The answer, once it is there."""
        found = await self._questions.find_one({"_id": question_id, "state": "answered"})
        return None if found is None else found["answer"]

    async def forget(self, question_id: str) -> None:
        """Remove a question with its sealed secrets."""
        await self._questions.delete_one({"_id": question_id})
