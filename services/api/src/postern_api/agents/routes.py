"""/v1/customers/{c}/directory/agents, and POST /v1/agent/enrol."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from postern_api.agents.door import count_failure
from postern_api.agents.rounds import routes as rounds
from postern_api.agents.schemas import (
    EXAMPLE_ID,
    Agent,
    AgentList,
    AgentToken,
    CreatedAgent,
    Enrolment,
    NewAgent,
    to_agent,
)
from postern_api.agents.service import Agents, enrol
from postern_api.auth.roles import Permission
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import PUBLIC, answers
from postern_api.http.problems import unauthorized
from postern_api.http.schemas import Page
from postern_api.resources import resources_of
from postern_api.tenancy import Tenant, customer_scope, public

_administered = APIRouter(prefix="/v1/customers/{c}/directory/agents", tags=["Agents"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DIRECTORY_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DIRECTORY_WRITE)]
AgentId = Annotated[str, Path(alias="id", max_length=100, description="The agent's id.", examples=[EXAMPLE_ID])]


@_administered.get("", operation_id="agents_list", summary="List agents", responses=answers(404))
async def list_agents(tenant: Reader, listing: Annotated[AgentList, Query()]) -> Page[Agent]:
    """Agents that read the directory from inside, or are about to."""
    found, cursor = await Agents(tenant).page(listing)
    now = tenant.resources.now()
    return Page(items=[to_agent(document, now) for document in found], next_cursor=cursor)


@_administered.post(
    "", operation_id="agents_create", summary="Add an agent", status_code=201, responses=answers(404, 409)
)
async def create_agent(tenant: Writer, body: NewAgent, response: Response) -> CreatedAgent:
    """Its enrolment code is in this answer and nowhere else; it works once, within an hour."""
    document, code = await Agents(tenant).add(body)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/directory/agents/{document['_id']}"
    set_etag(response, document, document["last_seen_at"])
    return CreatedAgent(code=code, **to_agent(document, tenant.resources.now()).model_dump())


@_administered.get("/{id}", operation_id="agents_get", summary="Show an agent", responses=answers(404))
async def get_agent(tenant: Reader, agent_id: AgentId, response: Response) -> Agent:
    """When it called last, and with which version."""
    document = await Agents(tenant).get(agent_id)
    set_etag(response, document, document["last_seen_at"])
    return to_agent(document, tenant.resources.now())


@_administered.delete(
    "/{id}", operation_id="agents_delete", summary="Revoke an agent", status_code=204, responses=answers(404, 412, 428)
)
async def delete_agent(tenant: Writer, agent_id: AgentId, condition: Condition) -> None:
    """It is refused at its next call. Users stay as they are."""
    await Agents(tenant).delete(agent_id, condition)


_enrolling = APIRouter(prefix="/v1/agent", tags=["Agents"])


@_enrolling.post(
    "/enrol",
    operation_id="agent_enrol",
    summary="Enrol an agent",
    dependencies=[public()],
    responses=answers(401, 429),
    openapi_extra=PUBLIC,
)
async def enrol_agent(body: Enrolment, request: Request) -> AgentToken:
    """A code gives one agent its token, once. After too many wrong ones of an address the answer is 429 for a while."""
    resources = resources_of(request)
    made = await enrol(resources, body)
    if made is None:
        await count_failure(request, resources)
        raise unauthorized("The code is wrong, was used before, or is older than an hour.")
    return made


router = APIRouter()
for part in (_administered, _enrolling, rounds.router):
    router.include_router(part)
