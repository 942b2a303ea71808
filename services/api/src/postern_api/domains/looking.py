"""Waiting for a look that the dns-verifier was asked for: a bounded number at a time, each for a bounded time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

from postern_api.http.problems import rate_limited
from postern_api.tenancy import Tenant
from postern_common.errors import Temporary

Document = dict[str, Any]
POLL_SECONDS: Final = (0.05, 0.5)
RETRY_SECONDS: Final = 5


async def looked_at(
    tenant: Tenant,
    ask: Callable[[datetime], Awaitable[None]],
    read: Callable[[], Awaitable[Document]],
    looked: Callable[[Document], datetime | None],
) -> Document:
    """`ask` for a look, then `read` until `looked` tells of one that began no earlier; raise `Temporary` where none
    comes in time, and 429 where too many of the customer's wait already.
    """
    waiting, limit = tenant.resources.verifications, tenant.resources.settings.api_max_verifications
    if waiting[tenant.customer_id] >= limit:
        raise rate_limited(f"{limit} domains are being looked at for you already.", RETRY_SECONDS)
    waiting[tenant.customer_id] += 1
    try:
        return await _awaited(tenant, ask, read, looked)
    finally:
        waiting[tenant.customer_id] -= 1
        if not waiting[tenant.customer_id]:
            del waiting[tenant.customer_id]


async def _awaited(
    tenant: Tenant,
    ask: Callable[[datetime], Awaitable[None]],
    read: Callable[[], Awaitable[Document]],
    looked: Callable[[Document], datetime | None],
) -> Document:
    requested = await tenant.resources.database_now()
    await ask(requested)
    loop = asyncio.get_running_loop()
    end = loop.time() + tenant.resources.settings.api_verify_wait_seconds
    pause, longest = POLL_SECONDS
    while loop.time() < end:
        await asyncio.sleep(pause)
        pause = min(longest, pause * 1.5)
        document = await read()
        at = looked(document)
        if at is not None and at >= requested:
            return document
    raise Temporary("no verifier answered", timedelta(seconds=10))
