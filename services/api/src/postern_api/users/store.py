"""Stored users of one customer, and their addresses, which are kept in the same transaction (DESIGN 5)."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from postern_common.documents import Collections, DomainState
from postern_common.mongo import PLATFORM, Mongo, Scoped, Session, TenantScope

Document = dict[str, Any]
_DECIDING: Final = dict.fromkeys(
    ("enabled", "frozen", "interval_hours", "last_good", "confirmed_at", "updated_at", "rules_changed_at"), 1
)


class UserStore:
    """The users of a customer."""

    def __init__(self, mongo: Mongo, scope: TenantScope) -> None:
        self._users = mongo.collection(Collections.USERS, scope)
        self._addresses = mongo.collection(Collections.ADDRESSES, scope)
        self._domains = mongo.collection(Collections.DOMAINS, scope)
        self._known = mongo.collection(Collections.KNOWN_ADDRESSES, scope)
        self._directories = mongo.collection(Collections.DIRECTORIES, scope)
        self._memberships = mongo.collection(Collections.MEMBERSHIPS, scope)
        self._sites = mongo.collection(Collections.SITES, scope)
        self._deleted = mongo.collection(Collections.DELETED_USERS, scope)
        self._sessions = mongo.collection(Collections.SESSIONS, PLATFORM)
        self._tokens = mongo.collection(Collections.TOKENS, PLATFORM)

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._users

    async def get(self, user_id: str, session: Session | None = None) -> Document | None:
        """One user."""
        return await self._users.find_one({"_id": user_id}, session=session)

    async def owner_of(self, keys: Sequence[str], session: Session) -> dict[str, str]:
        """Which of the addresses the customer has, and whose they are."""
        found = await self._addresses.find({"key": {"$in": list(keys)}}, limit=len(keys), session=session)
        return {address["key"]: address["user_id"] for address in found}

    async def id_of_address(self, key: str) -> str | None:
        """Whose address it is."""
        found = await self._addresses.find_one({"key": key})
        return None if found is None else str(found["user_id"])

    async def hold_domains(self, names: Sequence[str], session: Session) -> dict[str, DomainState]:
        """The states of those of the domains that the customer has, which stay so until the transaction ends.

        Writing to them makes this transaction and one that verifies or removes such a domain exclude each other, so
        that no address is left behind as a prepared one.
        """
        await self._domains.update_many({"name": {"$in": list(names)}}, {"$inc": {"writes": 1}}, session=session)
        found = await self._domains.find({"name": {"$in": list(names)}}, limit=len(names), session=session)
        return {domain["name"]: DomainState(domain["state"]) for domain in found}

    async def has_site(self, site_id: str, session: Session) -> bool:
        """Whether the customer has the site."""
        return await self._sites.find_one({"_id": site_id}, session=session) is not None

    async def count_licensed(self, session: Session) -> int:
        """How many licences are in use (SPEC T6): one a user, none for lists and other mailboxes."""
        return await self._users.count({"kind": "user"}, session=session)

    async def insert(self, document: Document, session: Session) -> None:
        """Keep a new user."""
        await self._users.insert_one(document, session=session)

    async def change(self, user_id: str, version: int, changes: Mapping[str, Any], session: Session) -> Document | None:
        """Change the version that was read; None if it is gone or has changed."""
        update = {"$set": dict(changes), "$inc": {"version": 1}}
        return await self._users.find_one_and_update({"_id": user_id, "version": version}, update, session=session)

    async def directory(self) -> Document | None:
        """The customer's settings of synchronisation, as far as they decide on deletions."""
        return await self._directories.find_one({}, projection=_DECIDING)

    async def delete(self, user: Document, session: Session) -> bool:
        """Remove the user with all addresses, and what made one of them known besides (SPEC R4)."""
        user_id = user["_id"]
        keys = [user["email_key"], *(alias["key"] for alias in user["aliases"])]
        await self._known.delete_many({"key": {"$in": keys}}, session=session)
        await self._addresses.delete_many({"user_id": user_id}, session=session)
        await self._memberships.delete_many({"$or": [{"group_id": user_id}, {"member_id": user_id}]}, session=session)
        return bool(await self._users.delete_one({"_id": user_id}, session=session))

    async def add_addresses(self, addresses: Sequence[Document], session: Session) -> None:
        """Keep addresses of a user."""
        if addresses:
            await self._addresses.insert_many(list(addresses), session=session)

    async def remove_addresses(self, user_id: str, keys: Sequence[str], session: Session) -> None:
        """Give up addresses of a user."""
        if keys:
            await self._addresses.delete_many({"user_id": user_id, "key": {"$in": list(keys)}}, session=session)

    async def set_primary(self, user_id: str, key: str, session: Session) -> None:
        """Mark which of the user's addresses is the primary one."""
        await self._addresses.update_many({"user_id": user_id}, {"$set": {"is_primary": False}}, session=session)
        await self._addresses.update_one(
            {"user_id": user_id, "key": key}, {"$set": {"is_primary": True}}, session=session
        )

    @property
    def deleted(self) -> Scoped:
        """For reading pages of deleted users."""
        return self._deleted

    async def get_deleted(self, user_id: str, now: datetime, session: Session) -> Document | None:
        """A deleted user who can be restored."""
        return await self._deleted.find_one({"_id": user_id, "purge_at": {"$gt": now}}, session=session)

    async def drop_deleted(self, user_id: str, session: Session) -> None:
        """Forget a deleted user."""
        await self._deleted.delete_one({"_id": user_id}, session=session)

    async def keep_deleted(self, document: Document, session: Session) -> None:
        """Keep what restoring needs; a user deleted again under the same id replaces it."""
        await self._deleted.delete_one({"_id": document["_id"]}, session=session)
        await self._deleted.insert_one(document, session=session)

    async def end_access(self, user_id: str, session: Session) -> None:
        """End all that the user is signed in with (SPEC T5)."""
        await self._sessions.delete_many({"principal_id": user_id}, session=session)
        await self._tokens.delete_many({"owner_id": user_id}, session=session)


def deleted_document(user: Document, now: datetime, purge_at: datetime) -> Document:
    """What is kept of a deleted user (SPEC X2)."""
    return {
        "_id": user["_id"],
        "email_key": user["email_key"],
        "immutable_id": user["immutable_id"],
        "user": user,
        "deleted_at": now,
        "purge_at": purge_at,
    }


def containing(text: str) -> Document:
    """The filter for users with `text` in a name or an address."""
    pattern = {"$regex": re.escape(text), "$options": "i"}
    return {"$or": [{field: pattern} for field in ("email_key", "aliases.key", "first_name", "last_name")]}


def primarily_in(ascii_name: str) -> Document:
    """The filter for users whose primary address is in a domain."""
    return {"email_key": {"$regex": f"@{re.escape(ascii_name)}$"}}
