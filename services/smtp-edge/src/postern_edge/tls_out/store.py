"""What is stored of TLS towards receiving domains: counted results, and kept MTA-STS policies.

They belong to no tenant: they tell of other people's domains, whoever wrote to them.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import structlog
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from postern_common.documents import Collections
from postern_common.errors import Temporary
from postern_common.mongo import PLATFORM, Document, DuplicateKey, Mongo
from postern_common.mongo_errors import is_unavailable
from postern_common.tls_result_documents import TLS_RESULTS_KEPT
from postern_edge.rules.mta_sts import KeptPolicy, StsPolicy
from postern_edge.rules.tls_tally import Key, Sum, details, document_id, policy_key

_ATTEMPTS: Final = 3

log = structlog.get_logger(__name__)


class TlsResultStore:
    """Adds to results."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._results = mongo.collection(Collections.TLS_RESULTS, PLATFORM)

    async def put(self, sums: Sequence[tuple[Key, Sum]]) -> None:
        """Add sums to the documents of their days and policies, in one request. Raises `Temporary`."""
        failed = [document_id(key) for key, total in sums if total.failures]
        found = await self._results.find({"_id": {"$in": failed}}, limit=len(sums), projection={"failures": 1})
        stored = {one["_id"]: one["failures"] for one in found}
        updates = [
            UpdateOne({"_id": document_id(key)}, _addition(key, total, stored.get(document_id(key), ())), upsert=True)
            for key, total in sums
        ]
        for _ in range(_ATTEMPTS):
            updates = await self._write(updates)
            if not updates:
                return
        log.error("tls_results_refused", results=len(updates))  # lost: statistics must not stop an edge

    async def _write(self, updates: list[UpdateOne]) -> list[UpdateOne]:
        """Those that were refused: mostly as another edge inserted their documents a moment before."""
        try:
            await self._mongo.direct(Collections.TLS_RESULTS).bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            return [updates[fault["index"]] for fault in (error.details or {}).get("writeErrors", ())]
        except PyMongoError as error:
            if is_unavailable(error):
                raise Temporary(f"tls results: {type(error).__name__}") from error
            raise
        return []


def _addition(key: Key, total: Sum, stored: Collection[str]) -> Document:
    """The change that adds a sum to its document, which has the failures `stored` so far."""
    day, reported = key
    counts: dict[str, int] = {"successes": total.successes}
    values: dict[str, str] = {}
    for name, failure in details(total.failures, stored).items():
        counts[f"failures.{name}.count"] = failure["count"]
        values |= {f"failures.{name}.{at}": str(value) for at, value in failure.items() if at != "count"}
    first: Document = {
        "day": day,
        "policy_domain": reported.policy_domain,
        "policy_type": reported.policy_type,
        "policy_key": policy_key(reported),
        "policy_string": list(reported.policy_string),
        "mx_host": list(reported.mx_host),
        "expires_at": datetime.fromisoformat(f"{day}T00:00:00+00:00") + TLS_RESULTS_KEPT,
    }
    if not values:
        return {"$inc": counts, "$setOnInsert": {**first, "failures": {}}}
    return {"$inc": counts, "$set": values, "$setOnInsert": first}


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
