"""How long a change takes until each of several edges answers by it, asked over SMTP again and again.

A change is written as the services write it, with majority and journal. The time counts from the moment that the write
begins, until the edge's reply to RCPT is the new one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pymongo import MongoClient, WriteConcern

from postern_common.documents import Collections, DomainState
from postern_common.ids import new_id
from tests.bench.client import Client
from tests.bench.population import Population
from tests.servers.waiting import eventually_async

PAUSE_SECONDS: Final = 0.001
TIMEOUT_SECONDS: Final = 60.0
KINDS: Final = ("address added", "address removed", "domain expired", "domain verified")


class Reach:
    """Makes changes to one population and asks `ports`, one for each edge, for the recipients that they concern."""

    def __init__(self, uri: str, database: str, population: Population, ports: Sequence[int]) -> None:
        client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self._client = client
        self._database = client.get_database(database, write_concern=WriteConcern("majority", j=True))
        self._population = population
        self._ports = ports

    async def measure(self, count: int) -> Mapping[str, list[float]]:
        """Each kind of change `count` times; the seconds of each change at each edge."""
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(count):
            for kind, recipient, reply, change in self._changes(number):
                found[kind] += await self._time(recipient, reply, change)
        self._client.close()
        return found

    def _changes(self, number: int) -> Sequence[tuple[str, str, str, Callable[[], object]]]:
        """Each kind of change: the recipient that it concerns, how the new reply begins, and what to write."""
        customer = number % self._population.customers
        customer_id, domain = self._population.customer_ids[customer], self._population.domain(customer)
        key = f"new.{number}@{domain}"
        old = self._population.recipient(customer)
        address = {
            "customer_id": customer_id,
            "key": key,
            "domain": domain,
            "user_id": new_id("usr"),
            "is_primary": True,
            "verified": True,
        }
        return (
            (KINDS[0], key, "250", lambda: self._addresses.insert_one(address)),
            (KINDS[1], key, "550 5.1.1", lambda: self._addresses.delete_one({"customer_id": customer_id, "key": key})),
            (KINDS[2], old, "550 5.7.1", lambda: self._set_state(customer_id, domain, DomainState.EXPIRED)),
            (KINDS[3], old, "250", lambda: self._set_state(customer_id, domain, DomainState.VERIFIED)),
        )

    @property
    def _addresses(self) -> Any:
        return self._database[Collections.ADDRESSES.value]

    def _set_state(self, customer_id: str, domain: str, state: DomainState) -> object:
        domains = self._database[Collections.DOMAINS.value]
        return domains.update_one({"customer_id": customer_id, "name": domain}, {"$set": {"state": state.value}})

    async def _time(self, recipient: str, reply: str, change: Callable[[], object]) -> list[float]:
        clients = [await Client.open(port) for port in self._ports]
        for client in clients:
            await client.ask("MAIL FROM:<bench@sender.test>")
        began = time.perf_counter()
        writing = asyncio.create_task(asyncio.to_thread(change))
        seen = await asyncio.gather(*(_until(client, recipient, reply) for client in clients))
        await writing
        for client in clients:
            await client.close()
        return [moment - began for moment in seen]


async def _until(client: Client, recipient: str, reply: str) -> float:
    """Ask until the reply to RCPT begins like `reply`; when it came."""

    async def answers() -> bool:
        return (await client.ask(f"RCPT TO:<{recipient}>")).startswith(reply)

    await eventually_async(answers, TIMEOUT_SECONDS, PAUSE_SECONDS)
    return time.perf_counter()
