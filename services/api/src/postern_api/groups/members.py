"""Who is in a group, directly or through groups within it (SPEC S7, B-S12). Groups may hold each other: each is looked
into once.
"""

from typing import Any, Final

from postern_api.groups.schemas import Member, MemberList, to_member
from postern_api.groups.store import GroupStore
from postern_api.http.pagination import Order
from postern_api.http.problems import conflict, not_found
from postern_api.tenancy import Tenant

Document = dict[str, Any]
FIELD: Final = "member_id"
MAX_WITHIN: Final = 5000
MAX_DEPTH: Final = 64


class Members:
    """The members of one group."""

    def __init__(self, tenant: Tenant, group_id: str) -> None:
        self._tenant = tenant
        self._group_id = group_id
        self._store = GroupStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: MemberList) -> tuple[list[Member], str | None]:
        """A page of them."""
        if await self._store.get(self._group_id) is None:
            raise not_found()
        pager, order = self._tenant.pager(listing), Order(FIELD, listing.sort.startswith("-"))
        after = None if listing.cursor is None else pager.open(listing.cursor, order)[1]
        lists = await self._store.list_ids() if listing.nested else frozenset()
        groups = await self._closure(lists) if listing.nested else {self._group_id}
        rows = await self._rows(groups, lists, after, listing.limit + 1, descending=order.descending)
        page, more = list(rows)[: listing.limit], len(rows) > listing.limit
        users = await self._store.users(page)
        direct = await self._store.present(self._group_id, page)
        members = [
            to_member(users[one], direct.get(one, rows[one]), is_direct=one in direct) for one in page if one in users
        ]
        return members, pager.seal(order, page[-1], page[-1]) if more else None

    async def _closure(self, lists: frozenset[str]) -> set[str]:
        """The group and all groups within it."""
        seen, frontier = {self._group_id}, {self._group_id}
        for _ in range(MAX_DEPTH):
            frontier = await self._store.groups_within(frontier, lists) - seen
            if not frontier:
                return seen
            seen |= frontier
            if len(seen) > MAX_WITHIN:
                message = f"More than {MAX_WITHIN} groups lie within this one. List the members of each."
                raise conflict("limit-reached", message)
        raise conflict("limit-reached", f"Groups lie {MAX_DEPTH} deep or more in this one. List the members of each.")

    async def _rows(
        self, groups: set[str], but: frozenset[str], after: str | None, wanted: int, *, descending: bool
    ) -> dict[str, str]:
        """The next members in order, each once, with the source of a membership."""
        rows: dict[str, str] = {}
        while len(rows) < wanted:
            found = await self._store.members(groups, but, after, wanted * 2, descending=descending)
            for row in found:
                rows.setdefault(row[FIELD], row["source"])
            if len(found) < wanted * 2:
                break
            # Who is in many groups may fill a batch; the next one begins behind them.
            after = found[-1][FIELD]
        return dict(list(rows.items())[:wanted])
