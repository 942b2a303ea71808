"""Administrators, sessions and the counters of failed sign-ins. These stand above tenants."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from postern_api.auth.keys import digest
from postern_common.documents import Collections, UserState
from postern_common.ids import new_id
from postern_common.mongo import PLATFORM, DuplicateKey, Mongo, Scoped

USE_RECORDED_EVERY: Final = timedelta(seconds=60)
KNOWN_FOR: Final = timedelta(days=30)
Document = dict[str, Any]


class AdministratorStore:
    """People who sign in."""

    def __init__(self, mongo: Mongo) -> None:
        self._administrators = mongo.collection(Collections.ADMINISTRATORS, PLATFORM)

    async def by_login(self, login_key: str) -> Document | None:
        """The administrator of a sign-in name."""
        return await self._administrators.find_one({"login_key": login_key})

    async def get(self, administrator_id: str) -> Document | None:
        """The administrator of an id, as long as the account is active."""
        return await self._administrators.find_one({"_id": administrator_id, "state": "active"})

    async def create_first(self, login: str, login_key: str, password_hash: str, now: datetime) -> bool:
        """Create a platform administrator unless the name is there; any number of processes may try at once."""
        document: Document = {
            "_id": new_id("adm"),
            "login": login,
            "login_key": login_key,
            "password_hash": password_hash,
            "role": "platform_admin",
            "partner_id": None,
            "customer_ids": [],
            "state": "active",
            "created_at": now,
            "updated_at": now,
            "version": 1,
        }
        try:
            await self._administrators.insert_one(document)
        except DuplicateKey:
            return False
        return True


class SessionStore:
    """Sign-ins that last."""

    def __init__(self, mongo: Mongo) -> None:
        self._sessions = mongo.collection(Collections.SESSIONS, PLATFORM)

    async def insert(self, document: Document) -> None:
        """Keep a new session."""
        await self._sessions.insert_one(document)

    async def get(self, session_id: str, now: datetime) -> Document | None:
        """A session that has not ended."""
        return await self._sessions.find_one({"_id": session_id, "expires_at": {"$gt": now}})

    async def used(self, session: Document, now: datetime) -> None:
        """Record the use, at most once a minute."""
        if session["last_used_at"] <= now - USE_RECORDED_EVERY:
            await self._sessions.update_one({"_id": session["_id"]}, {"$set": {"last_used_at": now}})

    @property
    def collection(self) -> Scoped:
        """For reading pages."""
        return self._sessions

    def lasting(self, principal_id: str, now: datetime) -> Document:
        """The filter for a principal's sessions that have not ended."""
        return {"principal_id": principal_id, "expires_at": {"$gt": now}}

    async def end(self, session_id: str, principal_id: str) -> bool:
        """End one session of a principal."""
        return bool(await self._sessions.delete_one({"_id": session_id, "principal_id": principal_id}))


class SignInLimits:
    """Counts failures in windows of fixed length; the counters remove themselves."""

    def __init__(self, mongo: Mongo, window: timedelta) -> None:
        self._limits = mongo.collection(Collections.SIGN_IN_LIMITS, PLATFORM)
        self._window = window

    def _key(self, kind: str, name: str, now: datetime) -> tuple[str, datetime]:
        number = int(now.timestamp() // self._window.total_seconds())
        end = datetime.fromtimestamp((number + 1) * self._window.total_seconds(), tz=now.tzinfo)
        return f"{kind}:{_hashed(name)}:{number}", end

    async def count(self, kind: str, name: str, now: datetime) -> tuple[int, datetime]:
        """Count an attempt before it is made; the count, and when the window ends."""
        key, end = self._key(kind, name, now)
        change = {"$inc": {"count": 1}, "$setOnInsert": {"expires_at": end}}
        try:
            found = await self._limits.find_one_and_update({"_id": key}, change, upsert=True)
        except DuplicateKey:  # two first attempts at once: the other one has inserted it
            found = await self._limits.find_one_and_update({"_id": key}, change, upsert=True)
        return int(found["count"]) if found else 1, end

    async def forget(self, account: str, origin: str, now: datetime) -> None:
        """A sign-in that worked is no failure of its account or its origin, and makes the origin known."""
        await self._limits.delete_one({"_id": self._key("account", account, now)[0]})
        await self._limits.delete_one({"_id": self._key("known", f"{account}\0{origin}", now)[0]})
        await self._limits.update_one({"_id": self._key("origin", origin, now)[0]}, {"$inc": {"count": -1}})
        change = {"$set": {"expires_at": now + KNOWN_FOR}}
        with suppress(DuplicateKey):  # two sign-ins at once: either has the same to say
            await self._limits.update_one({"_id": _known(account, origin)}, change, upsert=True)

    async def knows(self, account: str, origin: str, now: datetime) -> bool:
        """Whether somebody has signed in to the account from there lately."""
        return await self._limits.find_one({"_id": _known(account, origin), "expires_at": {"$gt": now}}) is not None


def _known(account: str, origin: str) -> str:
    return "signed-in:" + _hashed(f"{account}\0{origin}")


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class TokenStore:
    """API tokens, by their hash."""

    def __init__(self, mongo: Mongo) -> None:
        self._tokens = mongo.collection(Collections.TOKENS, PLATFORM)

    async def by_text(self, text: str, now: datetime) -> Document | None:
        """The token of a secret text, unless it has expired."""
        return await self._tokens.find_one({"hash": digest(text), "expires_at": {"$gt": now}})

    async def all_last(self, token_ids: Sequence[str], now: datetime) -> bool:
        """Whether all of the tokens are there and none has expired."""
        if not token_ids:
            return True
        return await self._tokens.count({"_id": {"$in": list(token_ids)}, "expires_at": {"$gt": now}}) == len(token_ids)

    async def used(self, token: Document, now: datetime) -> None:
        """Record the use, at most once a minute."""
        if token["last_used_at"] is None or token["last_used_at"] <= now - USE_RECORDED_EVERY:
            await self._tokens.update_one({"_id": token["_id"]}, {"$set": {"last_used_at": now}})

    async def put_bootstrap(self, document: Document) -> None:
        """Create or renew the token that the settings name, and remove the one that they named before."""
        await self._tokens.delete_many({"owner_id": document["owner_id"], "hash": {"$ne": document["hash"]}})
        fresh = {"expires_at": document.pop("expires_at")}
        change = {"$set": fresh, "$setOnInsert": document}
        try:
            await self._tokens.update_one({"hash": document["hash"]}, change, upsert=True)
        except DuplicateKey:  # another process was faster
            await self._tokens.update_one({"hash": document["hash"]}, {"$set": fresh})

    async def remove_bootstrap(self, owner_id: str) -> None:
        """Remove the settings' token once they name none."""
        await self._tokens.delete_many({"owner_id": owner_id})


class UserAccess:
    """Whether mailbox owners may come in (SPEC T5): nobody does who is flagged for deletion or deactivated."""

    def __init__(self, mongo: Mongo) -> None:
        self._users = mongo.collection(Collections.USERS, PLATFORM)

    async def is_active(self, user_id: str) -> bool:
        """Whether the user is there and has access."""
        states = {"$in": [UserState.ACTIVE.value, UserState.IGNORED.value]}
        return await self._users.count({"_id": user_id, "state": states}, limit=1) > 0
