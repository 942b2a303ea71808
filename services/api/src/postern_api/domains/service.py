"""Domains: added, verified on request, restarted, given a site, removed (SPEC D1 to D8).

Checking is the dns-verifier's: a request for it is written into the domain, and the answer is waited for.
"""

import secrets
from base64 import b32encode
from datetime import datetime, timedelta
from typing import Any, Final

from postern_api.customers.store import CustomerStore
from postern_api.domains.looking import looked_at
from postern_api.domains.names import parse_customer_domain
from postern_api.domains.schemas import SORTS, DomainList, DomainPatch, NewDomain, to_domain
from postern_api.domains.store import DomainStore
from postern_api.http.etag import IfMatch, stale
from postern_api.http.pagination import Order
from postern_api.http.problems import Problem, conflict, invalid, limit_reached, not_found
from postern_api.tenancy import Tenant
from postern_common.addresses import parse_domain
from postern_common.documents import DomainState
from postern_common.errors import Rejected
from postern_common.events import DomainAdded, SettingsChanged
from postern_common.ids import new_id
from postern_common.mongo import DuplicateKey, Session

Document = dict[str, Any]
LASTS: Final = timedelta(hours=72)
CODE_OCTETS: Final = 16
VERIFIED_ELSEWHERE: Final = "verified_elsewhere"


def new_code() -> str:
    """128 random bits, as lower-case base32 (SPEC D1)."""
    return b32encode(secrets.token_bytes(CODE_OCTETS)).decode().rstrip("=").lower()


class Domains:
    """The domains of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = DomainStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: DomainList) -> tuple[list[Document], str | None]:
        """A page of them."""
        query: Document = {}
        if listing.state is not None:
            query["state"] = listing.state.value
        if listing.site_id is not None:
            query["site_id"] = listing.site_id
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, query, listing, Order.of(listing.sort, SORTS))

    async def get(self, name: str) -> Document:
        """The domain of a name in any spelling."""
        try:
            ascii_name = parse_domain(name).ascii
        except Rejected:
            raise not_found() from None
        found = await self._store.get(ascii_name)
        if found is None:
            raise not_found()
        return found

    async def add(self, body: NewDomain) -> Document:
        """Add a domain, pending; a second time is answered with the first (CASES 35)."""
        name = parse_customer_domain(body.name, is_production=self._resources.settings.is_production)
        existing = await self._store.get(name.ascii)
        if existing is not None:
            raise _exists(existing)
        now = await self._resources.database_now()

        async def work(session: Session) -> Document:
            if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
                raise not_found()
            found = await self._store.get(name.ascii, session)
            if found is not None:
                raise _exists(found)
            if await self._store.has(limit := self._resources.settings.api_max_domains, session):
                raise limit_reached("domains", limit)
            elsewhere = await self._store.is_verified_elsewhere(name.ascii, session)
            document = _new_domain(name.ascii, name.unicode, now, VERIFIED_ELSEWHERE if elsewhere else None)
            await self._store.insert(document, session)
            await self._resources.emit(session, self._added(document))
            return document

        try:
            return await self._resources.transact(work)
        except DuplicateKey:
            raise _exists(await self.get(name.ascii)) from None

    def _added(self, document: Document) -> DomainAdded:
        return DomainAdded(
            customer_id=self._tenant.customer_id,
            domain_id=document["_id"],
            name_=document["name"],
            deadline=document["deadline"],
        )

    async def verify(self, name: str) -> Document:
        """Have it looked at now, in whatever state it is, and wait for the answer (SPEC D2)."""
        document = await self.get(name)
        return await looked_at(
            self._tenant,
            lambda at: self._store.request_check(document["_id"], at),
            lambda: self.get(document["name"]),
            lambda found: found["last_check"] and found["last_check"]["at"],
        )

    async def restart(self, name: str) -> Document:
        """Give an expired domain 72 hours anew; the code stays (SPEC D3)."""
        document = await self.get(name)
        if document["state"] != DomainState.EXPIRED:
            raise conflict("wrong-state", f"It is {document['state']}; only an expired domain is restarted.")
        now = await self._resources.database_now()

        async def work(session: Session) -> Document:
            elsewhere = await self._store.is_verified_elsewhere(document["name"], session)
            changes = _pending_fields(now, VERIFIED_ELSEWHERE if elsewhere else None)
            expected = {"state": DomainState.EXPIRED.value, "version": document["version"]}
            found = await self._store.change(document["_id"], expected, changes, session)
            if found is None:
                raise conflict("wrong-state", "It has just been restarted or removed.")
            await self._resources.emit(session, self._added(found))
            return found

        return await self._resources.transact(work)

    async def change(self, name: str, body: DomainPatch, condition: IfMatch) -> Document:
        """Choose its site."""
        return await condition.settle(lambda: self._change(name, body, condition))

    async def _change(self, name: str, body: DomainPatch, condition: IfMatch) -> Document:
        document = await self.get(name)
        condition.check(document["version"])
        if not body.changes():
            return document
        changes = body.changes() | {"updated_at": self._resources.now()}

        async def work(session: Session) -> Document:
            # Against a removal of the site at the same time.
            if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
                raise not_found()
            site_id = changes.get("site_id")
            if site_id is not None and not await self._store.has_site(site_id, session):
                raise invalid("There is no such site.", "/site_id")
            found = await self._store.change(document["_id"], {"version": document["version"]}, changes, session)
            if found is None:
                raise stale()
            event = SettingsChanged(
                customer_id=self._tenant.customer_id, resource="domain", resource_id=document["_id"], action="updated"
            )
            await self._resources.emit(session, event)
            return found

        return await self._resources.transact(work)


def _exists(document: Document) -> Problem:
    message = f"The domain {document['unicode_name']} is there already."
    existing = to_domain(document).model_dump(mode="json")
    return conflict("domain-exists", message, pointer="/name", existing=existing)


def _pending_fields(now: datetime, detail: str | None) -> Document:
    return {
        "state": DomainState.PENDING.value,
        "detail": detail,
        "pending_since": now,
        "deadline": now + LASTS,
        "next_check_at": now,
        "requested_at": None,
        "check_attempts": 0,
        "lease_owner": None,
        "lease_until": None,
        "expiry_warned_at": None,
        "updated_at": now,
    }


def _new_domain(ascii_name: str, unicode_name: str, now: datetime, detail: str | None) -> Document:
    return {
        "_id": new_id("dom"),
        "name": ascii_name,
        "unicode_name": unicode_name,
        "code": new_code(),
        "site_id": None,
        "last_check": None,
        "verified_at": None,
        "mx": None,
        "spf": None,
        "mail_dns_next_at": None,
        "created_at": now,
        "version": 1,
        **_pending_fields(now, detail),
    }
