"""Addresses that customers' own servers took mail for and that nobody has: noted for those who want that (SPEC U5).

Off the path of mail: what a delivery shows is gathered in memory and written once a second. What is lost with a
process, or for want of room, shows again with the next message; a customer with much to note takes no room from one
with little. Directory synchronisation turns the notes into users.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from prometheus_client import Counter

from postern_common.addresses import unquote_local
from postern_common.documents import RecipientState
from postern_common.polling import poll
from postern_edge.directory_index import Directory
from postern_edge.fair import Shares
from postern_edge.outbound.store import DiscoveryStore
from postern_edge.rules.conclusion import Change
from postern_edge.rules.recipients import ALWAYS_TAKEN

MAX_WAITING: Final = 10_000
PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)
_NOTED = Counter("postern_edge_discoveries_total", "Addresses without a user that a customer's server took mail for.")


class Discoveries:
    """Gathers and writes them."""

    def __init__(self, store: DiscoveryStore, directory: Directory) -> None:
        self._store = store
        self._directory = directory
        self._waiting: Shares[tuple[str, datetime]] = Shares(MAX_WAITING)

    def note(self, message: Mapping[str, Any], changes: Sequence[Change], now: datetime) -> None:
        """Take what an attempt showed: recipients whom the next hop took one by one, and who are nobody here.

        Mail without a sender says nothing, since servers take that for addresses that they would refuse otherwise.
        """
        customer_id = message["customer_id"]
        if message["direction"] != "inbound" or not message["sender"]:
            return
        index = self._directory.index
        if not index.discovers(customer_id):
            return
        for change in changes:
            if change.state is not RecipientState.DELIVERED:
                continue
            recipient = message["recipients"][change.index]
            if recipient["user_id"] is None and _names_somebody(recipient["key"]):
                self._waiting.put(customer_id, recipient["key"], (recipient["address"], now))

    async def run(self) -> None:
        """Write until cancelled; back off while the database is away."""
        await poll(self.flush, every=PAUSE_SECONDS, longest=MAX_PAUSE_SECONDS, waits="discoveries_wait")

    async def flush(self) -> None:
        """Write what waits; an address is noted once, however often it is seen."""
        for customer_id, key, (address, seen_at) in self._waiting.round_robin():
            await self._store.put(customer_id, key, address, seen_at)
            self._waiting.drop(customer_id, key)
            _NOTED.inc()


def _names_somebody(key: str) -> bool:
    """Not a role that every domain has, nor somebody's tag."""
    local = unquote_local(key.rpartition("@")[0])
    return local.casefold() not in ALWAYS_TAKEN and "+" not in local
