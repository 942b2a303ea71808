"""An edge within the test's own loop, on the worker's database and broker: its parts can be looked at and stopped one
by one."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from postern_common.documents import Collections
from postern_edge.app import Edge
from postern_edge.interfaces import AcceptedMessage, AcceptedRecipient
from postern_edge.settings import EdgeSettings
from tests.servers.waiting import eventually_async

CUSTOMER = "cus_0192f0c1a8b47c3e9d215b7f10aa3c55"
DOMAIN = "acme.test"
PARTS = ("bus", "directory", "commit", "results", "publisher", "delivery")


def message(
    recipients: Sequence[str | AcceptedRecipient] = (f"ann@{DOMAIN}",),
    sender: str = "bob@sender.test",
    body: bytes = b"Subject: Hello\r\n\r\nHello.\r\n",
    customer: str = CUSTOMER,
    **fields: Any,
) -> AcceptedMessage:
    """A message as the listener would hand it to the spool."""
    values: dict[str, Any] = {
        "queue_id": secrets.token_hex(5).upper(),
        "peer_ip": "192.0.2.1",
        "helo": "client.test",
        "tls": None,
        "sender": sender,
        "recipients": [
            one if isinstance(one, AcceptedRecipient) else AcceptedRecipient(one, one, customer, None)
            for one in recipients
        ],
        "body": body,
        "stored_body": None,
        "size": len(body),
        "smtputf8": False,
        "body_type": "7BIT",
        "envid": None,
        "ret": None,
        "subject": "Hello",
        "message_id": "<1@sender.test>",
        "received_at": datetime.now(UTC),
        **fields,
    }
    return AcceptedMessage(**values)


class InsideEdge:
    """The parts of an edge as tasks; `seed` gives it a customer, a verified domain and a site."""

    def __init__(self, mongo_uri: str, database: str, amqp_url: str, **settings: Any) -> None:
        values = {
            "environment": "test",
            "mongodb_uri": SecretStr(mongo_uri),
            "mongodb_database": database,
            "amqp_url": SecretStr(amqp_url),
            "allow_networks": "127.0.0.0/8",
            "edge_host": "127.0.0.1",
            "edge_hostname": "mx.postern.test",
            "edge_poll_seconds": 0.1,
            "edge_connect_timeout_seconds": 3.0,
            "edge_tls_timeout_seconds": 0.7,
            "edge_reply_timeout_seconds": 3.0,
            "edge_final_reply_timeout_seconds": 3.0,
            **settings,
        }
        self.edge = Edge(EdgeSettings.model_validate(values))
        self.mongo = self.edge.mongo
        self.clock_file: Path | None = settings.get("test_clock")
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, parts: Sequence[str] = PARTS) -> None:
        """Run the parts and wait until the directory is read and the broker connected."""
        await self.mongo.prepare()
        work = {
            "bus": self.edge.bus.run,
            "directory": self.edge.cache.run,
            "commit": self.edge.spool.commit.run,
            "results": self.edge.queue.results.run,
            "publisher": self.edge.publisher.run,
            "delivery": self.edge.delivery.run,
        }
        for part in parts:
            self._tasks[part] = asyncio.create_task(work[part]())
        await eventually_async(
            lambda: (
                ("directory" not in parts or self.edge.directory.fresh) and ("bus" not in parts or self.edge.bus.ready)
            ),
            timeout=20,
            pause=0.02,
        )

    async def kill(self, *parts: str) -> None:
        """Stop parts (all without a name) as a crash would: nothing is finished, nothing given back."""
        tasks = [self._tasks.pop(part) for part in parts or tuple(self._tasks)]
        if not parts:
            tasks += list(self.edge.delivery._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """End everything; what does not end in time fails the test, and holds up no others."""
        async with asyncio.timeout(60):
            await self.kill()
        await self.edge.sts.close()
        self.mongo.close()
        await self.mongo.close_direct()

    def raw(self, name: Collections) -> Any:
        """The driver's collection."""
        return self.mongo.db[name.value]

    async def seed(self, *servers: Any, customer: str = CUSTOMER, domain: str = DOMAIN, **changes: Any) -> None:
        """A customer with one verified domain and a default site of `servers` (FakeHops or dictionaries)."""
        listed = [one if isinstance(one, dict) else server(one) for one in servers]
        await self.raw(Collections.CUSTOMERS).insert_one(
            {
                "_id": customer,
                "recipient_mode": "accept_all",
                "plus_addressing": True,
                "max_message_bytes": None,
                **changes,
            }
        )
        await self.raw(Collections.DOMAINS).insert_one(
            {"_id": f"dom_{domain}", "customer_id": customer, "name": domain, "state": "verified", "site_id": None}
        )
        if servers:
            await self.add_site(f"sit_of_{customer}", listed, customer=customer, default=True)

    async def add_site(
        self, site_id: str, servers: list[Any], *, customer: str = CUSTOMER, default: bool = False
    ) -> None:
        """A site."""
        await self.raw(Collections.SITES).insert_one(
            {"_id": site_id, "customer_id": customer, "is_default": default, "servers": servers}
        )

    async def documents(self, **query: Any) -> list[dict[str, Any]]:
        """Stored messages, oldest first."""
        found: list[dict[str, Any]] = await self.raw(Collections.MESSAGES).find(query).sort("_id", 1).to_list(None)
        return found

    async def one(self, **query: Any) -> dict[str, Any]:
        """The only stored message."""
        found = await self.documents(**query)
        assert len(found) == 1, f"{len(found)} messages"
        return found[0]

    def move_clock(self, seconds: float) -> None:
        """Let time pass."""
        assert self.clock_file is not None
        self.clock_file.write_text(str(float(self.clock_file.read_text() or 0) + seconds))


def server(hop: Any, priority: int = 10, tls: str = "opportunistic") -> dict[str, Any]:
    """A site's server as it is stored."""
    return {"id": "srv_1", "host": hop.host, "port": hop.port, "priority": priority, "tls": tls}


async def settled(edge: InsideEdge, state: str = "done", **query: Any) -> list[dict[str, Any]]:
    """The messages, once all of them are in `state` and nobody works on them."""

    async def look():
        found = await edge.documents(**query)
        return found and all(one["state"] == state and one["lease_owner"] is None for one in found) and found

    return await eventually_async(look)


async def deferred(edge: InsideEdge) -> dict[str, Any]:
    """The only message, once its first recipient is deferred."""

    async def look():
        found = await edge.one()
        return found["recipients"][0]["state"] == "deferred" and found["lease_owner"] is None and found

    return await eventually_async(look)


def states(document: dict[str, Any]) -> dict[str, str]:
    """Recipients with their states."""
    return {one["address"]: one["state"] for one in document["recipients"]}


@pytest.fixture
async def edge(mongo_uri: str, database: str, vhost: str) -> AsyncIterator[InsideEdge]:
    """An edge with the usual settings, not yet started."""
    inside = InsideEdge(mongo_uri, database, vhost)
    yield inside
    await inside.close()
