"""The test of a site (SPEC R2): what a server answers to the beginning of a delivery, which is never finished.

The dialogue with one server is an adapter's; here stands how its steps add up to a result. At most two tests of a
customer run at a time.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from postern_api.http.problems import not_found, rate_limited
from postern_api.sites.schemas import ServerTest, SiteTest
from postern_api.sites.store import SiteStore
from postern_api.tenancy import Tenant

TESTS_AT_ONCE: Final = 2
MAX_DOMAINS: Final = 5
SECONDS: Final = 45.0


class Prober(Protocol):
    """Speaks SMTP with one server."""

    async def probe(self, server: dict[str, Any], recipients: Sequence[str], own_mx: Sequence[str]) -> ServerTest:
        """Go through the steps; never raises for what the server does."""


class _Running:
    """Counts the tests that run, by customer."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    @asynccontextmanager
    async def one_more(self, customer_id: str) -> AsyncIterator[None]:
        """Hold a place for one test; 429 where none is free."""
        if self._count[customer_id] >= TESTS_AT_ONCE:
            raise rate_limited(f"{TESTS_AT_ONCE} tests of this customer are running. Wait for one to end.", 10)
        self._count[customer_id] += 1
        try:
            yield
        finally:
            self._count[customer_id] -= 1
            if not self._count[customer_id]:
                del self._count[customer_id]


_running = _Running()


async def run_test(tenant: Tenant, site_id: str) -> SiteTest:
    """Test every server of a site, all at once."""
    resources = tenant.resources
    store = SiteStore(resources.mongo, tenant.scope)
    site = await store.get(site_id)
    if site is None:
        raise not_found()
    recipients = [f"postmaster@{name}" for name in await store.verified_domains(MAX_DOMAINS)]
    tested_at = resources.now()
    async with _running.one_more(tenant.customer_id), asyncio.timeout(SECONDS * 2):
        own = resources.settings.api_own_mx_hosts
        tests = await asyncio.gather(*(resources.prober.probe(server, recipients, own) for server in site["servers"]))
    return SiteTest(
        site_id=site_id, tested_at=tested_at, ok=all(test.result == "ok" for test in tests), servers=list(tests)
    )
