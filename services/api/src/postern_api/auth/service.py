"""Sign-in and the recognition of whoever asks.

The answer to a failed sign-in, and the time it takes, are the same whether or not the login exists (SPEC T3). A
principal is read anew at each request: a removed administrator's sessions and tokens end at once (SPEC T5).
"""

import unicodedata
from datetime import datetime, timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any, Final

import structlog

from postern_api.auth import keys
from postern_api.auth.roles import GRANTS, Permission, Principal, Role
from postern_api.auth.store import AdministratorStore, SessionStore, SignInLimits, TokenStore, UserAccess
from postern_api.http.problems import Problem, rate_limited
from postern_api.resources import Resources
from postern_common.ids import new_id

log = structlog.get_logger(__name__)

BOOTSTRAP_OWNER: Final = "bootstrap"
BOOTSTRAP_TOKEN_LASTS: Final = timedelta(days=365)


def login_key(login: str) -> str:
    """What two spellings of a sign-in name have in common."""
    return unicodedata.normalize("NFKC", login).strip().casefold()


def origin_key(origin: str) -> str:
    """What addresses of one origin have in common: a host chooses among the 2^64 of its IPv6 network."""
    try:
        address = ip_address(origin)
    except ValueError:
        return origin
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped is not None else str(IPv6Network((int(address), 64), strict=False))
    return str(address)


class Authenticator:
    """Signs people in and recognises principals."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._administrators = AdministratorStore(resources.mongo)
        self._sessions = SessionStore(resources.mongo)
        self._tokens = TokenStore(resources.mongo)
        self._users = UserAccess(resources.mongo)
        window = timedelta(seconds=resources.settings.api_sign_in_window_seconds)
        self._limits = SignInLimits(resources.mongo, window)

    def _now(self) -> datetime:
        return self._resources.now()

    async def sign_in(self, login: str, password: str, origin: str, user_agent: str) -> tuple[str, datetime]:
        """Start a session; its secret text and end. Raises 401 without saying why, 429 after too many failures."""
        now, key = self._now(), login_key(login)
        await self._check_limits(key, origin, now)
        found = await self._administrators.by_login(key)
        stored = found["password_hash"] if found and found["state"] == "active" else None
        if not await self._resources.passwords.verify(stored, password) or found is None:
            log.info("sign_in_failed", origin=origin)
            raise Problem("sign-in-failed", "The sign-in name or the password is wrong.", status=401)
        await self._limits.forget(key, origin_key(origin), now)
        session_id = new_id("ses")
        text = keys.new_session_text(session_id)
        ends = now + timedelta(hours=self._resources.settings.api_session_hours)
        await self._sessions.insert(
            {
                "_id": session_id,
                "hash": keys.digest(text),
                "principal_id": found["_id"],
                "origin": origin,
                "user_agent": user_agent[:300],
                "created_at": now,
                "last_used_at": now,
                "expires_at": ends,
                "version": 1,
            }
        )
        log.info("signed_in", principal_id=found["_id"], origin=origin)
        return text, ends

    async def _check_limits(self, key: str, origin: str, now: datetime) -> None:
        settings = self._resources.settings
        per_account, place = settings.api_sign_in_failures_per_account, origin_key(origin)
        await self._count("origin", place, settings.api_sign_in_failures_per_origin, now)
        if await self._limits.knows(key, place, now):
            # Who guesses from elsewhere cannot lock out a person where they have signed in before (SPEC T10).
            await self._count("known", f"{key}\0{place}", per_account, now)
        else:
            await self._count("account", key, per_account, now)

    async def _count(self, kind: str, name: str, limit: int, now: datetime) -> None:
        count, end = await self._limits.count(kind, name, now)
        if count > limit:
            log.warning("sign_in_limited", kind=kind)
            raise rate_limited("Too many failed sign-ins. Wait a while.", (end - now).total_seconds())

    async def sign_out(self, principal: Principal) -> None:
        """End the session that the request came with."""
        if principal.session_id is not None:
            await self._sessions.end(principal.session_id, principal.owner_id)

    async def recognise(self, text: str) -> Principal | None:
        """Who presents this secret text, if anybody."""
        session_id = keys.session_id_of(text)
        if session_id is not None:
            return await self._by_session(session_id, text)
        return await self._by_token(text)

    async def _by_session(self, session_id: str, text: str) -> Principal | None:
        now = self._now()
        session = await self._sessions.get(session_id, now)
        if session is None or not keys.same(session["hash"], keys.digest(text)):
            return None
        owner = await self._administrators.get(session["principal_id"])
        if owner is None:
            return None
        await self._sessions.used(session, now)
        return _principal(owner, owner, session["expires_at"], session_id=session_id, csrf_token=keys.csrf_token(text))

    async def _by_token(self, text: str) -> Principal | None:
        now = self._now()
        token = await self._tokens.by_text(text, now)
        if token is None or not await self._tokens.all_last(token.get("ancestors", ()), now):
            return None
        if token["owner_id"].startswith("adm_"):
            owner = await self._administrators.get(token["owner_id"])
            token = None if owner is None else _within(token, owner)
            if token is None:
                return None
        if token["owner_id"].startswith("usr_") and not await self._users.is_active(token["owner_id"]):
            return None
        await self._tokens.used(token, now)
        return _principal(token, token, token["expires_at"])

    async def bootstrap(self) -> None:
        """Create the administrator and the token that the settings name; any number of processes may."""
        settings, now = self._resources.settings, self._now()
        login = settings.api_bootstrap_login.strip()
        if login and await self._administrators.by_login(login_key(login)) is None:
            hashed = await self._resources.passwords.hash(settings.bootstrap_password())
            if await self._administrators.create_first(login, login_key(login), hashed, now):
                log.info("first_administrator_created")
        text = settings.bootstrap_token()
        if not text:
            await self._tokens.remove_bootstrap(BOOTSTRAP_OWNER)
            return
        document = token_document(
            text, name="from the settings", owner_id=BOOTSTRAP_OWNER, role=Role.PLATFORM_ADMIN, now=now,
            expires_at=now + BOOTSTRAP_TOKEN_LASTS,
        )  # fmt: skip
        await self._tokens.put_bootstrap(document)


def token_document(  # noqa: PLR0913 - keyword-only, each a field
    text: str,
    *,
    name: str,
    owner_id: str,
    role: Role,
    now: datetime,
    expires_at: datetime,
    customer_id: str | None = None,
    partner_id: str | None = None,
    scopes: frozenset[Permission] | None = None,
    created_by: str | None = None,
    ancestors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What is stored of a token: everything but its text."""
    return {
        "_id": new_id("tok"),
        "hash": keys.digest(text),
        "name": name,
        "owner_id": owner_id,
        "role": role.value,
        "customer_ids": [customer_id] if customer_id else [],
        "partner_id": partner_id,
        "scopes": None if scopes is None else sorted(scopes),
        "created_by": created_by,
        "ancestors": list(ancestors),
        "created_at": now,
        "expires_at": expires_at,
        "last_used_at": None,
        "version": 1,
    }


def _within(token: dict[str, Any], owner: dict[str, Any]) -> dict[str, Any] | None:
    """The token with what its owner may still do: a right that a person lost is lost to their tokens at once."""
    role, owners = Role(token["role"]), Role(owner["role"])
    if not GRANTS[role] <= GRANTS[owners] or token["partner_id"] != owner["partner_id"]:
        return None
    return token | {"customer_ids": [one for one in token["customer_ids"] if one in owner["customer_ids"]]}


def _principal(
    document: dict[str, Any],
    source: dict[str, Any],
    expires_at: datetime,
    *,
    session_id: str | None = None,
    csrf_token: str | None = None,
) -> Principal:
    scopes = source.get("scopes")
    owner_id = document.get("owner_id", "")
    return Principal(
        id=document["_id"],
        # What a token of a customer or of the settings makes is its own, not its customer's.
        owner_id=owner_id if owner_id.startswith("adm_") else document["_id"],
        name=document.get("login") or document["name"],
        role=Role(document["role"]),
        partner_id=document.get("partner_id"),
        customer_ids=frozenset(document.get("customer_ids", ())),
        scopes=None if scopes is None else frozenset(Permission(scope) for scope in scopes),
        expires_at=expires_at,
        session_id=session_id,
        csrf_token=csrf_token,
        ancestors=tuple(source.get("ancestors", ())),
    )
