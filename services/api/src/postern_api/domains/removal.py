"""Removing a domain (SPEC D8): its users go at once, without conflicts, and secondary addresses in it are taken off.

A domain of many users is emptied in several transactions, each with its events; the domain itself goes in the last
one. Should the process die in between, the domain is still there and removing it again goes on.
"""

from typing import Any, Final

from postern_api.customers.store import CustomerStore
from postern_api.domains.service import Domains
from postern_api.domains.store import DomainStore
from postern_api.http.etag import IfMatch
from postern_api.http.problems import not_found
from postern_api.tenancy import Tenant
from postern_api.users.deletion import forget_user
from postern_common.events import DomainRemoved, UserUpdated
from postern_common.mongo import Session

Document = dict[str, Any]
CHUNK: Final = 300
REASON: Final = "domain removed"


class Removal:
    """The removal of one domain."""

    def __init__(self, tenant: Tenant, document: Document, condition: IfMatch) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = DomainStore(tenant.resources.mongo, tenant.scope)
        self._domain = document
        self._condition = condition
        self._has_begun = False
        self._users = 0
        self._aliases = 0

    async def run(self) -> None:
        """Remove it with all that hangs on it."""
        while True:
            users, aliases, is_done = await self._resources.transact(self._chunk)
            self._has_begun = True
            self._users += users
            self._aliases += aliases
            if is_done:
                return

    async def _check(self, session: Session) -> None:
        """Refuse what has changed since it was read; once begun, a removal goes on whatever happens."""
        present = await self._store.get(self._domain["name"], session)
        if present is None or present["_id"] != self._domain["_id"]:
            raise not_found()
        self._condition.check(present["version"])

    async def _chunk(self, session: Session) -> tuple[int, int, bool]:
        """One transaction: some users and aliases, and the domain once none is left."""
        now = self._resources.now()
        name = self._domain["name"]
        if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
            raise not_found()
        if not self._has_begun:
            await self._check(session)
        users = await self._store.users_primarily_in(name, CHUNK, session)
        for user in users:
            await forget_user(self._tenant, user, REASON, now, session)
        aliases = await self._store.aliases_in(name, CHUNK, session)
        for alias in aliases:
            await self._store.take_off_alias(alias, now, session)
            event = UserUpdated(customer_id=self._tenant.customer_id, user_id=alias["user_id"], fields=["aliases"])
            await self._resources.emit(session, event)
        if len(users) == CHUNK or len(aliases) == CHUNK:
            return len(users), len(aliases), False
        if not await self._store.delete(self._domain["_id"], session):
            raise not_found()
        event_removed = DomainRemoved(
            customer_id=self._tenant.customer_id,
            domain_id=self._domain["_id"],
            name_=name,
            removed_users=self._users + len(users),
            removed_aliases=self._aliases + len(aliases),
        )
        await self._resources.emit(session, event_removed)
        return len(users), len(aliases), True


async def remove_domain(tenant: Tenant, name: str, condition: IfMatch) -> None:
    """Remove a domain of the customer, if it is the version that the caller has seen."""
    await Removal(tenant, await Domains(tenant).get(name), condition).run()
