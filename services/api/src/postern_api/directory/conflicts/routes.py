"""/v1/customers/{c}/directory/conflicts."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from postern_api.auth.roles import Permission
from postern_api.directory.conflicts.schemas import (
    Conflict,
    ConflictAction,
    ConflictFilter,
    ConflictList,
    ConflictResults,
    to_conflict,
)
from postern_api.directory.conflicts.service import Conflicts
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope
from postern_api.users.showing import pauses

router = APIRouter(prefix="/v1/customers/{c}/directory/conflicts", tags=["Directory"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.USERS_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.USERS_WRITE)]
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file.",
        "content": {"text/csv": {"schema": {"type": "string", "description": "One conflict a line."}}},
    }
}


@router.get("", operation_id="directory_conflicts_list", summary="List conflicts", responses=answers(404))
async def list_conflicts(tenant: Reader, listing: Annotated[ConflictList, Query()]) -> Page[Conflict]:
    """Users that synced before and are gone from the directory, or disabled there, with the day when they go."""
    found, cursor = await Conflicts(tenant).page(listing)
    waits = await pauses(tenant, found)
    items = [to_conflict(document, paused) for document, paused in zip(found, waits, strict=True)]
    return Page(items=items, next_cursor=cursor)


@router.post(
    "/actions", operation_id="directory_conflicts_actions", summary="Decide on conflicts", responses=answers(404, 409)
)
async def act(tenant: Writer, body: ConflictAction) -> ConflictResults:
    """For one user or many at a time, all or nothing: `results` of a refusal names those that stand in the way.

    A user who is ignored becomes active when they are back in the directory; one who is deactivated stays so.
    """
    return await Conflicts(tenant).resolve(body)


@router.get(
    "/export",
    operation_id="directory_conflicts_export",
    summary="Export conflicts",
    response_class=Response,
    responses={**_FILE, **answers(404)},
)
async def export(tenant: Reader, wanted: Annotated[ConflictFilter, Query()]) -> StreamingResponse:
    """As CSV. A cell that a spreadsheet would compute has a `'` before it."""
    headers = {"Content-Disposition": 'attachment; filename="conflicts.csv"'}
    return StreamingResponse(Conflicts(tenant).csv(wanted), media_type="text/csv; charset=utf-8", headers=headers)
