"""Mail that goes by MX: notifications that an edge sends, because the customer's own server refuses; what came of them,
and what was counted of their TLS.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from postern_common.documents import Collections
from tests.servers.edge_inside import InsideEdge, message
from tests.servers.smtp_fake import FakeHop
from tests.servers.waiting import eventually_async


@pytest.fixture
async def site() -> AsyncIterator[FakeHop]:
    """The customer's server, which knows nobody."""
    hop = await FakeHop(replies={"RCPT": "550 5.1.1 no such user"}).start()
    yield hop
    await hop.stop()


async def sent(edge: InsideEdge, domain: str, state: str) -> tuple[str, str]:
    """The reply and the step of the trace, once a notification to a domain is in a state."""
    before = {one["_id"] for one in await edge.documents(direction="dsn")}
    await edge.edge.spool.accept(message(sender=f"bob@{domain}"))

    async def look() -> Any:
        found = [one for one in await edge.documents(direction="dsn") if one["_id"] not in before]
        return found and found[0]["recipients"][0]["state"] == state and found[0]

    found = await eventually_async(look)
    return found["recipients"][0]["reply"], next(one["detail"] for one in found["steps"] if one["what"] == state)


async def results(edge: InsideEdge, domain: str) -> dict[str, tuple[int, dict[tuple[str, str], int]]]:
    """What is counted for a domain, by policy type: successes, and failures by type and code."""
    await edge.edge.tls_counts.flush()
    found = await edge.raw(Collections.TLS_RESULTS).find({"policy_domain": domain}).to_list(None)
    return {
        one["policy_type"]: (
            one["successes"],
            {(kind["result_type"], kind["failure_reason_code"]): kind["count"] for kind in one["failures"].values()},
        )
        for one in found
    }
