"""/v1/customers/{c}/directory/sync, /preview and /runs."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.directory.runs.decisions import Decisions
from postern_api.directory.runs.schemas import (
    EXAMPLE_ID,
    Approval,
    PlanItem,
    PlanList,
    Run,
    RunList,
    to_plan_item,
    to_run,
)
from postern_api.directory.runs.service import Runs
from postern_api.http.etag import set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/directory", tags=["Directory"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DIRECTORY_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DIRECTORY_WRITE)]
RunId = Annotated[str, Path(alias="id", max_length=100, description="The run's id.", examples=[EXAMPLE_ID])]


def _locate(response: Response, tenant: Tenant, run_id: str) -> None:
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/directory/runs/{run_id}"


@router.post(
    "/sync", operation_id="directory_sync", summary="Synchronise now", status_code=202, responses=answers(404, 409)
)
async def sync(tenant: Writer, response: Response) -> Run:
    """Ask for a run; follow it at `Location`. While one is under way the answer is 409 with that one in `existing`.

    409 `directory-not-configured` or `directory-off` where there is no directory to read.
    """
    document = await Runs(tenant).request("sync")
    _locate(response, tenant, document["_id"])
    return to_run(document)


@router.post(
    "/preview",
    operation_id="directory_preview",
    summary="Preview a synchronisation",
    status_code=202,
    responses=answers(404, 409),
)
async def preview(tenant: Writer, response: Response) -> Run:
    """The directory is read and a plan is stored; nothing else changes.

    The run at `Location` gets its `plan_hash` when it has ended; its plan can be looked at and approved.
    """
    document = await Runs(tenant).request("preview")
    _locate(response, tenant, document["_id"])
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
    set_etag(response, document, document["progress"])
    return to_run(document)


@router.get("/runs/{id}/plan", operation_id="directory_runs_plan", summary="Show a run's plan", responses=answers(404))
async def get_plan(tenant: Reader, run_id: RunId, listing: Annotated[PlanList, Query()]) -> Page[PlanItem]:
    """Each change with what stood there before; plans are kept for a while after the run."""
    found, cursor = await Runs(tenant).plan(run_id, listing)
    return Page(items=[to_plan_item(document) for document in found], next_cursor=cursor)


@router.post(
    "/runs/{id}/approve",
    operation_id="directory_runs_approve",
    summary="Approve a run's plan",
    status_code=202,
    responses=answers(404, 409),
)
async def approve_run(tenant: Writer, run_id: RunId, body: Approval, response: Response) -> Run:
    """For a held run, or a preview that has ended.

    The directory is read again by a run of its own, which the answer shows, and the plan is applied if it comes out the
    same. If it does not, or a later run or changed settings make it pointless, the answer is 409 `plan-stale`; should
    reading take longer than this request waits, the run tells. An incomplete read flags nobody, approved or not.
    """
    document = await Decisions(tenant).approve(run_id, body.plan_hash)
    _locate(response, tenant, document["_id"])
    return to_run(document)


@router.post(
    "/runs/{id}/reject",
    operation_id="directory_runs_reject",
    summary="Reject a run's plan",
    responses=answers(404, 409),
)
async def reject_run(tenant: Writer, run_id: RunId) -> Run:
    """What is held is not done. The next run will hold it again if nothing has changed."""
    return to_run(await Decisions(tenant).reject(run_id))


@router.post(
    "/runs/{id}/cancel", operation_id="directory_runs_cancel", summary="Call a run off", responses=answers(404, 409)
)
async def cancel_run(tenant: Writer, run_id: RunId) -> Run:
    """One that waits ends at once; one that has begun ends where it can, and what it has applied stays."""
    return to_run(await Decisions(tenant).cancel(run_id))
