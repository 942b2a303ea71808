"""The verifier's queries: claims of due domains, results of looks, and the addresses that a verified domain decides.

A claim is one atomic step with a token of its own and lasts for a lease, so two verifiers never look at one domain, and
what a dead one held is taken over. Every write of a result names the token, the code and the state that the look began
with: a domain removed, restarted or taken over meanwhile is left alone.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from postern_common.documents import Collections, DomainState
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM, Document, Mongo, Session, TenantScope

# How long the owner of a domain is taken to wait for the answer; the API waits for at most a minute.
WAITED_FOR: Final = timedelta(seconds=60)
VERIFIED_ELSEWHERE: Final = "verified_elsewhere"
_RELEASED: Final = {"lease_owner": None, "lease_until": None}


class DomainStore:
    """Domains of all customers, as a verifier sees them."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._domains = mongo.collection(Collections.DOMAINS, PLATFORM)
        self._users = mongo.collection(Collections.USERS, PLATFORM)
        self._addresses = mongo.collection(Collections.ADDRESSES, PLATFORM)

    # -- claims -------------------------------------------------------------------------------------------------------

    async def claim_check(self, now: datetime, lease: timedelta) -> Document | None:
        """Claim a domain whose owner waits for the answer, else the one whose ownership look has been due for longest.

        So many domains that are due, or slow, do not keep somebody waiting who pressed *verify now* (SPEC D2).
        """
        due = {"next_check_at": {"$lte": now}}
        asked_for = {"requested_at": {"$gte": now - WAITED_FOR}}
        asked = await self._claim(due | asked_for, "requested_at", now, lease)
        return asked or await self._claim(due, "next_check_at", now, lease)

    async def claim_mail_look(self, now: datetime, lease: timedelta) -> Document | None:
        """Claim a verified domain whose owner waits for a look at its mail records, else the one that is due for
        longest.
        """
        due = {"state": DomainState.VERIFIED.value, "mail_dns_next_at": {"$lte": now}}
        asked_for = {"mail_requested_at": {"$gte": now - WAITED_FOR}}
        asked = await self._claim(due | asked_for, "mail_requested_at", now, lease)
        return asked or await self._claim(due, "mail_dns_next_at", now, lease)

    async def _claim(self, due: Mapping[str, Any], by: str, now: datetime, lease: timedelta) -> Document | None:
        free = {"$or": [{"lease_until": None}, {"lease_until": {"$lte": now}}]}
        token = new_id("run")
        return await self._domains.find_one_and_update(
            {**due, **free}, {"$set": {"lease_owner": token, "lease_until": now + lease}}, sort=[(by, 1)]
        )

    async def claimed(self, claim: Document, session: Session) -> Document | None:
        """The claimed domain as it stands now, None if it is no longer ours or no longer what we looked at."""
        return await self._domains.find_one(_still(claim), session=session)

    # -- results ------------------------------------------------------------------------------------------------------

    async def write(
        self, claim: Document, fields: Mapping[str, Any], session: Session, *, is_change: bool, attempts: int = 0
    ) -> bool:
        """Write a result and release the claim; `is_change` counts it as a change of the resource (its ETag)."""
        change = {"$set": {**fields, **_RELEASED}, "$inc": {"version": int(is_change), "check_attempts": attempts}}
        return bool(await self._domains.update_one(_still(claim), change, session=session))

    async def holder(self, claim: Document, session: Session) -> Document | None:
        """The verified domain of that name, if another customer has it."""
        found = await self._domains.find_one(
            {"name": claim["name"], "state": DomainState.VERIFIED.value}, session=session
        )
        return found if found is not None and found["_id"] != claim["_id"] else None

    async def mark_other_claims(self, domain: Document, now: datetime, session: Session) -> None:
        """Tell the other customers' claims of a domain that it is verified now, for somebody else."""
        await self._domains.update_many(
            {"name": domain["name"], "_id": {"$ne": domain["_id"]}, "detail": {"$ne": VERIFIED_ELSEWHERE}},
            {"$set": {"detail": VERIFIED_ELSEWHERE, "updated_at": now}, "$inc": {"version": 1}},
            session=session,
        )

    async def make_due(
        self, domain_id: str, customer_id: str, deadline: datetime, added_at: datetime, now: datetime, session: Session
    ) -> bool:
        """Make a pending domain due at once, unless it was looked at since `added_at` or restarted since."""
        waiting = {
            "_id": domain_id,
            "state": DomainState.PENDING.value,
            "deadline": deadline,
            "next_check_at": {"$gt": now},
            "$or": [{"last_check": None}, {"last_check.at": {"$lt": added_at}}],
        }
        domains = self.mongo.collection(Collections.DOMAINS, TenantScope(customer_id))
        return bool(await domains.update_one(waiting, {"$set": {"next_check_at": now}}, session=session))

    # -- addresses in a verified domain (SPEC U4) ---------------------------------------------------------------------

    async def adopt_addresses(self, domain: Document, session: Session) -> int:
        """The holder's prepared addresses become live."""
        addresses = self.mongo.collection(Collections.ADDRESSES, TenantScope(domain["customer_id"]))
        return await addresses.update_many(
            {"domain": domain["name"], "verified": False}, {"$set": {"verified": True}}, session=session
        )

    async def foreign_addresses(self, domain: Document, limit: int, session: Session) -> list[Document]:
        """Addresses that other customers prepared in the domain."""
        others = {"domain": domain["name"], "customer_id": {"$ne": domain["customer_id"]}}
        return await self._addresses.find(others, limit=limit, session=session)

    async def remove_user(self, user_id: str, session: Session) -> bool:
        """Remove a user with all addresses."""
        await self._addresses.delete_many({"user_id": user_id}, session=session)
        return bool(await self._users.delete_one({"_id": user_id}, session=session))

    async def remove_aliases(self, user_id: str, keys: list[str], now: datetime, session: Session) -> bool:
        """Take secondary addresses off a user."""
        await self._addresses.delete_many({"user_id": user_id, "key": {"$in": keys}}, session=session)
        change = {
            "$pull": {"aliases": {"key": {"$in": keys}}},
            "$set": {"updated_at": now},
            "$inc": {"version": 1},
        }
        return bool(await self._users.update_one({"_id": user_id}, change, session=session))


def _still(claim: Document) -> Document:
    return {key: claim[key] for key in ("_id", "lease_owner", "code", "state")}
