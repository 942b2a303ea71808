"""/v1/customers/{c}/directory."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.directory.schemas import EXAMPLE_ID, Run, RunList, to_run
from postern_api.directory.service import Runs
from postern_api.http.etag import set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/directory", tags=["Directory"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DIRECTORY_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DIRECTORY_WRITE)]
RunId = Annotated[str, Path(alias="id", max_length=100, description="The run's id.", examples=[EXAMPLE_ID])]


@router.post(
    "/sync", operation_id="directory_sync", summary="Synchronise now", status_code=202, responses=answers(404, 409)
)
async def sync(tenant: Writer, response: Response) -> Run:
    """Ask for a run; follow it at `Location`. While one is under way the answer is 409 with that one in `existing`."""
    document = await Runs(tenant).request()
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/directory/runs/{document['_id']}"
    return to_run(document)


@router.get("/runs", operation_id="directory_runs_list", summary="List runs", responses=answers(404))
async def list_runs(tenant: Reader, listing: Annotated[RunList, Query()]) -> Page[Run]:
    """The newest first."""
    found, cursor = await Runs(tenant).page(listing)
    return Page(items=[to_run(document) for document in found], next_cursor=cursor)


@router.get("/runs/{id}", operation_id="directory_runs_get", summary="Show a run", responses=answers(404))
async def get_run(tenant: Reader, run_id: RunId, response: Response) -> Run:
    """How far it is and what came of it."""
    document = await Runs(tenant).get(run_id)
    set_etag(response, document)
    return to_run(document)
