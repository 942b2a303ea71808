"""Stored lists of one customer and their memberships."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from postern_common.documents import Collections
from postern_common.mongo import Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]
LIST: Final = "list"


class GroupStore:
    """The groups of a customer: users of kind `list`."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._users = mongo.collection(Collections.USERS, scope)
        self._memberships = mongo.collection(Collections.MEMBERSHIPS, scope)

    @property
    def collection(self) -> Scoped:
        """For reading pages of groups."""
        return self._users

    async def get(self, group_id: str, session: Session | None = None) -> Document | None:
        """One group."""
        return await self._users.find_one({"_id": group_id, "kind": LIST}, session=session)

    async def count(self, group_id: str) -> int:
        """How many are directly in a group."""
        return await self._memberships.count({"group_id": group_id})

    async def list_ids(self) -> frozenset[str]:
        """The ids of all groups."""
        return frozenset([group["_id"] async for group in self._users.stream({"kind": LIST}, projection={"_id": 1})])

    async def groups_within(self, group_ids: Collection[str], lists: Collection[str]) -> set[str]:
        """Which of `lists` are directly in one of the groups."""
        query = {"group_id": {"$in": list(group_ids)}, "member_id": {"$in": list(lists)}}
        projection = {"_id": 0, "member_id": 1}
        return {row["member_id"] async for row in self._memberships.stream(query, projection=projection)}

    async def members(
        self, group_ids: Collection[str], but: Collection[str], after: str | None, limit: int, *, descending: bool
    ) -> list[Document]:
        """Memberships of the groups, but of these members, in the order of members behind `after`."""
        beyond: Document = {} if after is None else {"$lt" if descending else "$gt": after}
        if but:
            beyond["$nin"] = list(but)
        query: Document = {"group_id": {"$in": list(group_ids)}}
        if beyond:
            query["member_id"] = beyond
        return await self._memberships.find(query, limit=limit, sort=[("member_id", -1 if descending else 1)])

    async def users(self, user_ids: Sequence[str], session: Session | None = None) -> dict[str, Document]:
        """Users and groups by id."""
        found = await self._users.find({"_id": {"$in": list(user_ids)}}, limit=len(user_ids) or 1, session=session)
        return {user["_id"]: user for user in found}

    async def present(self, group_id: str, member_ids: Sequence[str], session: Session | None = None) -> dict[str, str]:
        """Who of them is directly in the group, with the source of that."""
        query = {"group_id": group_id, "member_id": {"$in": list(member_ids)}}
        found = await self._memberships.find(query, limit=len(member_ids) or 1, session=session)
        return {row["member_id"]: row["source"] for row in found}

    async def add(self, group_id: str, member_ids: Sequence[str], source: str, session: Session) -> None:
        """Put members into a group."""
        rows = [{"group_id": group_id, "member_id": member_id, "source": source} for member_id in member_ids]
        if rows:
            await self._memberships.insert_many(rows, session=session)

    async def remove(self, group_id: str, member_ids: Sequence[str], session: Session) -> None:
        """Take members out of a group."""
        await self._memberships.delete_many(
            {"group_id": group_id, "member_id": {"$in": list(member_ids)}}, session=session
        )

    async def forget(self, group_id: str, session: Session) -> None:
        """Remove all memberships of a group, and those in it."""
        for field in ("group_id", "member_id"):
            await self._memberships.delete_many({field: group_id}, session=session)
