"""Hosted MTA-STS policies as they are stored: within the domain that they are for, so that they go with it."""

from collections.abc import Mapping
from typing import Any

from postern_common.documents import Collections, DomainState
from postern_common.mongo import PLATFORM, Document, Mongo, Session, TenantScope


class PolicyStore:
    """The policies of one customer's domains."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._domains = mongo.collection(Collections.DOMAINS, scope)

    async def put(
        self, domain_id: str, version: int | None, policy: Mapping[str, Any], session: Session
    ) -> Document | None:
        """Keep a policy of a verified domain in the place of the one with this version, or of none; the domain.

        None where the domain or its policy is no longer so. The domain's own version stays.
        """
        query = {"_id": domain_id, "state": DomainState.VERIFIED.value, **_present(version)}
        return await self._domains.find_one_and_update(query, {"$set": {"mta_sts": dict(policy)}}, session=session)

    async def remove(self, domain_id: str, version: int, session: Session) -> bool:
        """Remove the policy with this version."""
        query = {"_id": domain_id, **_present(version)}
        return bool(await self._domains.update_one(query, {"$unset": {"mta_sts": ""}}, session=session))


def _present(version: int | None) -> Document:
    return {"mta_sts": {"$exists": False}} if version is None else {"mta_sts.version": version}


class ServedPolicies:
    """The policies of all customers, by the name of the domain, for whoever asks in public."""

    def __init__(self, mongo: Mongo) -> None:
        self._domains = mongo.collection(Collections.DOMAINS, PLATFORM)

    async def of(self, name: str) -> Document | None:
        """The policy of a verified domain, if one is hosted."""
        query = {"name": name, "state": DomainState.VERIFIED.value}
        found = await self._domains.find_one(query, projection={"mta_sts": 1})
        return None if found is None else found.get("mta_sts")
