"""What is stored of TLS towards receiving domains: counted results, and kept MTA-STS policies.

They belong to no tenant: they tell of other people's domains, whoever wrote to them.
"""

from datetime import datetime
from typing import Final

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM, DuplicateKey, Mongo
from postern_common.tls_result_documents import TLS_RESULTS_KEPT
from postern_edge.rules.mta_sts import KeptPolicy, StsPolicy
from postern_edge.rules.tls_tally import Key, Sum, details, document_id, policy_key

_AGAIN: Final = 3


class TlsResultStore:
    """Adds to results."""

    def __init__(self, mongo: Mongo) -> None:
        self._results = mongo.collection(Collections.TLS_RESULTS, PLATFORM)

    async def put(self, key: Key, total: Sum) -> None:
        """Add the sums of one day and policy."""
        day, reported = key
        identity = document_id(key)
        changes: dict[str, int] = {"successes": total.successes}
        values: dict[str, str] = {}
        if total.failures:
            found = await self._results.find_one({"_id": identity}, projection={"failures": 1})
            for name, failure in details(total.failures, (found or {}).get("failures", ())).items():
                changes[f"failures.{name}.count"] = failure["count"]
                values |= {f"failures.{name}.{at}": str(value) for at, value in failure.items() if at != "count"}
        begins = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        first = {
            "day": day,
            "policy_domain": reported.policy_domain,
            "policy_type": reported.policy_type,
            "policy_key": policy_key(reported),
            "policy_string": list(reported.policy_string),
            "mx_host": list(reported.mx_host),
            "expires_at": begins + TLS_RESULTS_KEPT,
        }
        if not total.failures:
            first_failures: dict[str, object] = {}
            await self._add(identity, {"$inc": changes, "$setOnInsert": {**first, "failures": first_failures}})
            return
        await self._add(identity, {"$inc": changes, "$set": values, "$setOnInsert": first})

    async def _add(self, identity: str, change: dict[str, object]) -> None:
        for _ in range(_AGAIN):
            try:
                await self._results.update_one({"_id": identity}, change, upsert=True)
            except DuplicateKey:  # another edge inserted it a moment before
                continue
            return


class StsPolicyStore:
    """Policies that edges share."""

    def __init__(self, mongo: Mongo) -> None:
        self._policies = mongo.collection(Collections.STS_POLICIES, PLATFORM)

    async def get(self, domain: str, now: datetime) -> KeptPolicy | None:
        """A domain's policy, if one is kept and in force."""
        found = await self._policies.find_one({"_id": domain, "expires_at": {"$gt": now}})
        if found is None:
            return None
        policy = StsPolicy(found["mode"], tuple(found["mx"]), found["max_age_seconds"], tuple(found["lines"]))
        return KeptPolicy(policy, found["policy_id"], found["fetched_at"])

    async def put(self, domain: str, kept: KeptPolicy) -> None:
        """Keep a policy that was fetched now, in place of an older one."""
        policy = kept.policy
        values = {
            "policy_id": kept.policy_id,
            "mode": policy.mode,
            "mx": list(policy.mx),
            "max_age_seconds": policy.max_age_seconds,
            "lines": list(policy.lines),
            "fetched_at": kept.fetched_at,
            "expires_at": kept.expires_at,
        }
        try:
            await self._policies.update_one({"_id": domain}, {"$set": values}, upsert=True)
        except DuplicateKey:
            return  # another edge fetched it at the same moment
