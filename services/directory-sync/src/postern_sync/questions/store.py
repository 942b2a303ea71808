"""Questions of the api to directories: claimed by lease, answered once. They are gone soon after."""

from datetime import datetime, timedelta
from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, Mongo

Document = dict[str, Any]


class QuestionStore:
    """The questions of all customers."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._questions = mongo.collection(Collections.DIRECTORY_REQUESTS, PLATFORM)

    async def claim(self, owner: str, now: datetime, lease: timedelta) -> Document | None:
        """Take the oldest question that nobody answers, and for whose answer somebody still waits."""
        dead = {"state": "running", "lease_until": {"$lte": now}}
        waiting = {"$or": [{"state": "asked"}, dead], "expires_at": {"$gt": now}}
        change = {"$set": {"state": "running", "lease_owner": owner, "lease_until": now + lease}}
        return await self._questions.find_one_and_update(waiting, change, sort=[("_id", 1)])

    async def answer(self, question: Document, owner: str, answer: Document) -> bool:
        """Keep the answer and forget the settings that it was got with; False where another worker has it."""
        mine = {"_id": question["_id"], "state": "running", "lease_owner": owner}
        fields = {"state": "answered", "answer": answer, "settings": {}, "lease_owner": None, "lease_until": None}
        return bool(await self._questions.update_one(mine, {"$set": fields}))
