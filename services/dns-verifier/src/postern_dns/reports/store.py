"""Reports as they are stored: planned once for a day, claimed by one sender at a time, written after each hand-over."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM, Document, DuplicateKey, Mongo, Session
from postern_common.own_mail import OwnMail, documents

BATCH: Final = 500
PLANNED: Final = "planned"
WAITING: Final = "waiting"
DONE: Final = "done"
MAX_RESULTS: Final = 200
_RELEASED: Final = {"lease_owner": None, "lease_until": None}


class ReportStore:
    """The reports of this installation, and the results that they tell."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._reports = mongo.collection(Collections.TLS_REPORTS, PLATFORM)
        self._results = mongo.collection(Collections.TLS_RESULTS, PLATFORM)
        self._messages = mongo.collection(Collections.MESSAGES, PLATFORM)
        self._bodies = mongo.collection(Collections.BODIES, PLATFORM)

    # -- planning -----------------------------------------------------------------------------------------------------

    async def is_planned(self, day: str) -> bool:
        """Whether all reports of that day are there."""
        return await self._reports.find_one({"_id": day}) is not None

    async def mark_planned(self, day: str, expires_at: datetime) -> None:
        """All reports of that day are there."""
        with suppress(DuplicateKey):  # another process was at it too
            await self._reports.insert_one({"_id": day, "day": day, "state": PLANNED, "expires_at": expires_at})

    async def domains_of(self, day: str) -> AsyncIterator[str]:
        """The domains that there are results about, each once."""
        last = None
        order = [("policy_domain", 1)]
        async for result in self._results.stream({"day": day}, projection={"policy_domain": 1}, sort=order):
            if result["policy_domain"] != last:
                last = result["policy_domain"]
                yield str(last)

    async def add(self, reports: Sequence[Document]) -> None:
        """Keep reports; those that are there already stay as they are."""
        with suppress(DuplicateKey):
            await self._reports.insert_many(list(reports), ordered=False)

    # -- sending ------------------------------------------------------------------------------------------------------

    async def claim(self, now: datetime, lease: timedelta) -> Document | None:
        """Claim the report that has been due for longest."""
        free = {"$or": [{"lease_until": None}, {"lease_until": {"$lte": now}}]}
        return await self._reports.find_one_and_update(
            {"state": WAITING, "due_at": {"$lte": now}, **free},
            {"$set": {"lease_owner": new_id("run"), "lease_until": now + lease}, "$inc": {"attempts": 1}},
            sort=[("due_at", 1)],
        )

    async def results(self, day: str, domain: str) -> list[Document]:
        """What was counted about a domain on a day."""
        return await self._results.find({"day": day, "policy_domain": domain}, limit=MAX_RESULTS)

    async def write(self, claim: Document, fields: Mapping[str, Any], session: Session | None = None) -> bool:
        """Write fields of a claimed report; False where the claim was lost."""
        still = {"_id": claim["_id"], "lease_owner": claim["lease_owner"]}
        return bool(await self._reports.update_one(still, {"$set": dict(fields)}, session=session))

    async def release(self, claim: Document, fields: Mapping[str, Any]) -> bool:
        """Write fields and let go of the claim."""
        return await self.write(claim, {**fields, **_RELEASED})

    async def hand_over(self, claim: Document, mail: OwnMail, fields: Mapping[str, Any]) -> bool:
        """Put a mail into the edges' queue and write that, both or neither; False where the claim was lost."""
        message, body = documents(mail, await self.mongo.now())

        async def work(session: Session) -> bool:
            if not await self.write(claim, fields, session):
                return False
            await self._bodies.insert_one(dict(body), session=session)
            await self._messages.insert_one(dict(message), session=session)
            return True

        return await self.mongo.transact(work)
