"""Agents added, enrolled, given new tokens, and revoked (SPEC L4). Of codes and tokens only hashes are stored."""

import secrets
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import structlog

from postern_api.agents.door import CODE_PREFIX, TOKEN_PREFIX, Agent
from postern_api.agents.rounds.store import RoundStore
from postern_api.agents.schemas import SORTS, AgentList, AgentToken, Enrolment, NewAgent, to_agent
from postern_api.agents.store import AgentAccess, AgentStore
from postern_api.auth.keys import digest
from postern_api.customers.store import CustomerStore
from postern_api.http.etag import IfMatch
from postern_api.http.pagination import Order
from postern_api.http.problems import Problem, conflict, limit_reached, not_found, unauthorized
from postern_api.resources import Resources
from postern_api.tenancy import Tenant
from postern_common.events import SettingsChanged
from postern_common.ids import new_id
from postern_common.mongo import Session

Document = dict[str, Any]
CODE_LASTS: Final = timedelta(hours=1)
TOKEN_LASTS: Final = timedelta(days=90)

log = structlog.get_logger(__name__)


class Agents:
    """The agents of one customer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._resources = tenant.resources
        self._store = AgentStore(tenant.resources.mongo, tenant.scope)
        self._rounds = RoundStore(tenant.resources.mongo, tenant.scope)

    async def page(self, listing: AgentList) -> tuple[list[Document], str | None]:
        """A page of them."""
        pager = self._tenant.pager(listing)
        return await pager.read(self._store.collection, {}, listing, Order.of(listing.sort, SORTS))

    async def get(self, agent_id: str) -> Document:
        """One agent."""
        found = await self._store.get(agent_id)
        if found is None:
            raise not_found()
        return found

    async def add(self, body: NewAgent) -> tuple[Document, str]:
        """Add one that nobody has enrolled yet; the document and the code to show."""
        now, code = self._resources.now(), CODE_PREFIX + secrets.token_urlsafe(24)
        document: Document = {
            "_id": new_id("agt"),
            "name": body.name,
            "code_hash": digest(code),
            "code_expires_at": now + CODE_LASTS,
            "token_hash": None,
            "previous_hash": None,
            "token_expires_at": None,
            "enrolled_at": None,
            "last_seen_at": None,
            "last_version": None,
            "created_at": now,
            "created_by": self._tenant.principal.id,
            "version": 1,
        }

        async def work(session: Session) -> None:
            if await CustomerStore(self._resources.mongo).lock(self._tenant.customer_id, session) is None:
                raise not_found()
            limit = self._resources.settings.api_max_agents
            others = await self._store.all(limit, session)
            for other in others:
                if other["name"].casefold() == body.name.casefold():
                    raise _exists(other, now)
            if len(others) >= limit:
                raise limit_reached("agents", limit)
            await self._store.insert(document, session)
            await self._resources.emit(session, self._changed(document["_id"], "created"))

        await self._resources.transact(work)
        return document, code

    async def delete(self, agent_id: str, condition: IfMatch) -> None:
        """Revoke one: it is refused at its next call, and what it was sending is for another one to send."""
        condition.check((await self.get(agent_id))["version"])
        now = self._resources.now()

        async def work(session: Session) -> None:
            if not await self._store.delete(agent_id, session):
                raise not_found()
            await self._rounds.give_up(agent_id, now, session)
            await self._resources.emit(session, self._changed(agent_id, "deleted"))

        await self._resources.transact(work)

    def _changed(self, agent_id: str, action: Literal["created", "deleted"]) -> SettingsChanged:
        return SettingsChanged(
            customer_id=self._tenant.customer_id, resource="directory-agent", resource_id=agent_id, action=action
        )


def _exists(other: Document, now: datetime) -> Problem:
    message = "An agent has this name already. Choose another one, or remove that agent first."
    return conflict("agent-exists", message, pointer="/name", existing=to_agent(other, now).model_dump(mode="json"))


def _new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


async def enrol(resources: Resources, body: Enrolment) -> AgentToken | None:
    """Spend a code on a token; None where the code is wrong, spent or too old."""
    now, token = resources.now(), _new_token()
    expires_at = now + TOKEN_LASTS
    changes = {
        "code_hash": None,
        "code_expires_at": None,
        "token_hash": digest(token),
        "previous_hash": None,
        "token_expires_at": expires_at,
        "enrolled_at": now,
        "last_seen_at": now,
        "last_version": body.version,
    }
    found = await AgentAccess(resources.mongo).enrol(digest(body.code), now, changes)
    if found is None:
        return None
    log.info("agent_enrolled", customer_id=found["customer_id"], agent_id=found["_id"])
    return AgentToken(agent_id=found["_id"], token=token, expires_at=expires_at)


async def rotate(agent: Agent) -> AgentToken:
    """A new token; the one that was presented is good until the new one was used."""
    token, expires_at = _new_token(), agent.resources.now() + TOKEN_LASTS
    access = AgentAccess(agent.resources.mongo)
    if not await access.rotate(agent.id, agent.presented, digest(token), expires_at):
        raise unauthorized("The token has ended.")
    return AgentToken(agent_id=agent.id, token=token, expires_at=expires_at)
