"""Hosted MTA-STS policies for tests: an API that offers them, stored ones, and what looks at mail records find."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import Api

OFFERED = {"api_own_mx_hosts": "mx1.postern.test,mx2.postern.test", "api_policy_host": "policy.postern.test",
           "api_policy_port": 8081}  # fmt: skip
OURS = ("10 mx1.postern.test", "20 mx2.postern.test")


def stored_policy(mode: str = "testing", **fields: Any) -> dict[str, Any]:
    """A policy as it stands in its domain's document."""
    at = datetime(2026, 11, 28, 12, tzinfo=UTC)
    return {
        "mode": mode,
        "max_age": 604_800,
        "mx": ["mx1.postern.test", "mx2.postern.test"],
        "extra_mx": [],
        "report_to": [],
        "binding_until": None,
        "check": None,
        "created_at": at,
        "updated_at": at,
        "version": 1,
        **fields,
    }


async def put_policy(api: Api, name: str, mode: str = "testing", **fields: Any) -> None:
    """Give a domain a policy as if its owner had."""
    domains = api.mongo.collection(Collections.DOMAINS, PLATFORM)
    assert await domains.update_one({"name": name}, {"$set": {"mta_sts": stored_policy(mode, **fields)}})


@asynccontextmanager
async def looking(api: Api, records: Callable[[str], tuple[str, ...] | None]) -> AsyncIterator[list[str]]:
    """What the dns-verifier does with requests for looks at mail records: `records(domain)` are its MX records, None
    where nobody can tell. Yields the domains looked at.
    """
    domains = api.mongo.collection(Collections.DOMAINS, PLATFORM)
    looked: list[str] = []

    async def look() -> None:
        while True:
            now = await api.mongo.now()
            for domain in await domains.find({"mail_dns_next_at": {"$lte": now}}, limit=10):
                found = records(domain["name"])
                mx = {
                    "state": "cannot_tell" if found is None else "ok",
                    "found": list(found or ()),
                    "explanation": "As it was found.",
                    "checked_at": now,
                }
                await domains.update_one({"_id": domain["_id"]}, {"$set": {"mx": mx, "mail_dns_next_at": None}})
                looked.append(domain["name"])
            await asyncio.sleep(0.05)

    task = asyncio.create_task(look())
    try:
        yield looked
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
