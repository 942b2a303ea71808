"""API tokens (SPEC T4): shown once, stored hashed, expiring, never worth more than the one who made them."""

from datetime import datetime, timedelta
from typing import Any, Final

from postern_api.auth.keys import new_token_text
from postern_api.auth.roles import GRANTS, MAY_GIVE, Permission, Principal, Role
from postern_api.auth.service import token_document
from postern_api.customers.store import CustomerStore
from postern_api.http.etag import IfMatch
from postern_api.http.pagination import Order
from postern_api.http.problems import forbidden, invalid, limit_reached, not_found
from postern_api.tenancy import Caller, Tenant
from postern_api.tokens.schemas import SORTS, NewCustomerToken, NewToken, TokenList
from postern_api.tokens.store import OwnedTokens
from postern_common.events import SettingsChanged
from postern_common.mongo import Session

Document = dict[str, Any]
DEFAULT_LASTS: Final = timedelta(days=90)
LONGEST: Final = timedelta(days=365)
MAX_ANCESTORS: Final = 8


def expiry(wanted: datetime | None, now: datetime, bound: datetime | None) -> datetime:
    """When a new token ends. `bound` is the end of the token that makes it, if it is one."""
    latest = now + LONGEST if bound is None else min(bound, now + LONGEST)
    if wanted is None:
        return min(now + DEFAULT_LASTS, latest)
    if wanted <= now:
        raise invalid("It must lie ahead.", "/expires_at")
    if wanted > latest:
        message = "A token ends within a year." if bound is None else "A token cannot outlive the one that makes it."
        raise invalid(message, "/expires_at")
    return wanted


def given_scopes(principal: Principal, role: Role, wanted: list[Permission] | None) -> frozenset[Permission] | None:
    """The scopes of a new token: those asked for, none that the maker lacks."""
    if wanted is None:
        return None if principal.scopes is None else principal.scopes & GRANTS[role]
    scopes = frozenset(wanted)
    if not scopes <= GRANTS[role] or not scopes <= principal.permissions:
        raise invalid("A scope is not within the role, or not yours to give.", "/scopes")
    return scopes


async def _found(store: OwnedTokens, token_id: str) -> Document:
    found = await store.get(token_id)
    if found is None:
        raise not_found()
    return found


async def _check_limit(store: OwnedTokens, limit: int, session: Session) -> None:
    if await store.has(limit, session):
        raise limit_reached("tokens", limit)


def _bound(principal: Principal) -> datetime | None:
    return principal.expires_at if principal.is_token else None


class OwnTokens:
    """The principal's own tokens."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._store = OwnedTokens(caller.resources.mongo, caller.principal.owner_id)

    async def page(self, listing: TokenList) -> tuple[list[Document], str | None]:
        """A page of them."""
        pager = self._caller.pager(listing)
        return await pager.read(self._store.collection, self._store.query, listing, Order.of(listing.sort, SORTS))

    async def create(self, body: NewToken) -> tuple[Document, str]:
        """Make one; the document and the text to show."""
        principal, resources = self._caller.principal, self._caller.resources
        role = body.role or principal.role
        if role not in MAY_GIVE[principal.role]:
            raise invalid("This role is not yours to give.", "/role")
        ancestors = (*principal.ancestors, principal.id) if principal.is_token else ()
        if len(ancestors) > MAX_ANCESTORS:
            raise forbidden("Too many tokens stand between this one and a person; it makes no further one.")
        now, text = resources.now(), new_token_text()
        document = token_document(
            text, name=body.name, owner_id=principal.owner_id, role=role, now=now,
            expires_at=expiry(body.expires_at, now, _bound(principal)), partner_id=principal.partner_id,
            scopes=given_scopes(principal, role, body.scopes), created_by=principal.id,
            ancestors=ancestors,
        )  # fmt: skip
        document["customer_ids"] = sorted(principal.customer_ids)

        async def work(session: Session) -> None:
            await _check_limit(self._store, resources.settings.api_max_tokens, session)
            await self._store.insert(document, session)

        await resources.transact(work)
        return document, text

    async def get(self, token_id: str) -> Document:
        """One of them."""
        return await _found(self._store, token_id)

    async def delete(self, token_id: str, condition: IfMatch) -> None:
        """Remove one; it and what came from it end at once."""
        condition.check((await self.get(token_id))["version"])

        async def work(session: Session) -> None:
            if not await self._store.delete(token_id, session):
                raise not_found()

        await self._caller.resources.transact(work)


class CustomerTokens:
    """A customer's tokens."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._store = OwnedTokens(tenant.resources.mongo, tenant.customer_id)

    async def page(self, listing: TokenList) -> tuple[list[Document], str | None]:
        """A page of them."""
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, self._store.query, listing, Order.of(listing.sort, SORTS))

    async def create(self, body: NewCustomerToken) -> tuple[Document, str]:
        """Make one; the document and the text to show."""
        tenant, resources = self._tenant, self._tenant.resources
        principal = tenant.principal
        if not GRANTS[body.role] <= GRANTS[principal.role]:
            raise forbidden("This role is not yours to give.")
        now, text = resources.now(), new_token_text()
        document = token_document(
            text, name=body.name, owner_id=tenant.customer_id, role=body.role, now=now,
            expires_at=expiry(body.expires_at, now, _bound(principal)), customer_id=tenant.customer_id,
            scopes=given_scopes(principal, body.role, body.scopes), created_by=principal.id,
        )  # fmt: skip

        async def work(session: Session) -> None:
            if await CustomerStore(resources.mongo).lock(tenant.customer_id, session) is None:
                raise not_found()
            await _check_limit(self._store, resources.settings.api_max_tokens, session)
            await self._store.insert(document, session)
            await resources.emit(session, self._changed(document["_id"], "created"))

        await resources.transact(work)
        return document, text

    async def get(self, token_id: str) -> Document:
        """One of them."""
        return await _found(self._store, token_id)

    async def delete(self, token_id: str, condition: IfMatch) -> None:
        """Remove one; it and what came from it end at once."""
        resources = self._tenant.resources
        condition.check((await self.get(token_id))["version"])

        async def work(session: Session) -> None:
            if not await self._store.delete(token_id, session):
                raise not_found()
            await resources.emit(session, self._changed(token_id, "deleted"))

        await resources.transact(work)

    def _changed(self, token_id: str, action: Any) -> SettingsChanged:
        return SettingsChanged(
            customer_id=self._tenant.customer_id, resource="token", resource_id=token_id, action=action
        )
