"""Lists by cursor: the last thing's sort value and id, signed: it cannot be made up or moved to another list.

The order always ends in `_id`, so that a page begins exactly where the one before ended whatever was added in between.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from postern_api.http.problems import Problem
from postern_api.http.schemas import ListQuery
from postern_common.mongo import Scoped
from postern_common.secrets import Signer

MAX_LIST_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Order:
    """A list's order: a stored field and whether it runs backwards."""

    field: str
    descending: bool

    @classmethod
    def of(cls, sort: str, fields: Mapping[str, str]) -> "Order":
        """Read `name` or `-name`, by the list's table of fields."""
        return cls(fields[sort.removeprefix("-")], sort.startswith("-"))

    @property
    def keys(self) -> list[tuple[str, int]]:
        """The sort for the database."""
        direction = -1 if self.descending else 1
        return [("_id", direction)] if self.field == "_id" else [(self.field, direction), ("_id", direction)]

    def after(self, value: Any, last_id: str) -> dict[str, Any]:
        """The filter for what comes after a thing."""
        operator = "$lt" if self.descending else "$gt"
        if self.field == "_id":
            return {"_id": {operator: last_id}}
        return {"$or": [{self.field: {operator: value}}, {self.field: value, "_id": {operator: last_id}}]}


@dataclass(frozen=True, slots=True)
class Pager:
    """Reads one page of a list. `place` names the list, its tenant and its filters: cursors hold nowhere else."""

    signer: Signer
    place: str

    async def read(
        self, collection: Scoped, query: Mapping[str, Any], listing: ListQuery, order: Order, **options: Any
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The page's documents and the next cursor."""
        conditions: dict[str, Any] = dict(query)
        if listing.cursor is not None:
            value, last_id = self.open(listing.cursor, order)
            conditions = {"$and": [conditions, order.after(value, last_id)]}
        found = await collection.find(
            conditions, limit=listing.limit + 1, sort=order.keys, max_time_ms=MAX_LIST_MS, **options
        )
        page = found[: listing.limit]
        if len(found) <= listing.limit:
            return page, None
        return page, self.seal(order, page[-1].get(order.field), page[-1]["_id"])

    def seal(self, order: Order, value: Any, last_id: str) -> str:
        """The cursor after a thing."""
        stored = {"t": value.isoformat()} if isinstance(value, datetime) else {"v": value}
        text = json.dumps([order.field, order.descending, stored, last_id], separators=(",", ":")).encode()
        return f"{_encode(text)}.{_encode(self.signer.sign(self._signed(text)))}"

    def open(self, cursor: str, order: Order) -> tuple[Any, str]:
        """The sort value and id that a cursor holds; refuses one of another list, order or filter."""
        try:
            text, signature = (_decode(part) for part in cursor.split("."))
        except ValueError:
            raise _invalid_cursor() from None
        if not self.signer.check(self._signed(text), signature):
            raise _invalid_cursor()
        field, descending, stored, last_id = json.loads(text)
        if (field, descending) != (order.field, order.descending):
            raise _invalid_cursor()
        return datetime.fromisoformat(stored["t"]) if "t" in stored else stored["v"], last_id

    def _signed(self, text: bytes) -> bytes:
        return self.place.encode() + b"\0" + text


def place_of(path: str, listing: ListQuery) -> str:
    """The name of a list with its filters, for `Pager`."""
    filters = listing.model_dump(mode="json", exclude={"limit", "cursor", "sort"}, exclude_none=True)
    return f"{path}?{json.dumps(filters, sort_keys=True)}"


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def _invalid_cursor() -> Problem:
    message = "The cursor does not belong to this list with these filters; begin again without one."
    return Problem("invalid-cursor", message, status=422, pointer="/cursor")
