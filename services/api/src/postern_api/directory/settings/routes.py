"""/v1/customers/{c}/directory."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from postern_api.auth.roles import Permission
from postern_api.directory.settings.schemas import Directory, DirectoryInput, to_directory
from postern_api.directory.settings.service import Directories
from postern_api.http.etag import Condition, OptionalCondition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers, tagged
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/directory", tags=["Directory"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DIRECTORY_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DIRECTORY_WRITE)]
Confirm = Annotated[
    bool, Query(description="Whether the consequences of changing the provider are known.", examples=[True])
]
_CREATED: Final[dict[int | str, dict[str, Any]]] = {201: {"model": Directory, "description": "It was set up."}}


async def _shown(tenant: Tenant, document: dict[str, Any], response: Response) -> Directory:
    """The answer with its tag, which runs, decisions and the customer's delay change too."""
    next_run, delay = document["next_run_at"], tenant.customer["deletion_delay_days"]
    waiting = await Directories(tenant).waiting_run(document)
    set_etag(response, document, next_run and next_run.isoformat(), document["last_run_id"], waiting, delay)
    return to_directory(document, delay, waiting)


@router.get(
    "", operation_id="directory_get", summary="Show the directory's settings", responses=answers(404) | tagged(200)
)
async def get_directory(tenant: Reader, response: Response) -> Directory:
    """404 before it is set up. Secrets are never shown, only whether they are there."""
    document = await Directories(tenant).get()
    return await _shown(tenant, document, response)


@router.put(
    "",
    operation_id="directory_replace",
    summary="Set up the directory, or replace its settings",
    responses=answers(404, 409, 412, 428) | tagged(200) | _CREATED,
)
async def put_directory(
    tenant: Writer, body: DirectoryInput, condition: OptionalCondition, response: Response, confirm: Confirm = False
) -> Directory:
    """The first time answers 201 and needs no `If-Match`.

    Secrets that are left out stay, unless they would be sent to another place. A change of provider is answered 409
    `confirmation-required` with its `consequences`, and done with `confirm=true`; removals of the next run are then
    held for approval.
    """
    document, is_new = await Directories(tenant).put(body, condition, confirmed=confirm)
    if is_new:
        response.status_code = 201
        response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/directory"
    return await _shown(tenant, document, response)


@router.delete(
    "",
    operation_id="directory_delete",
    summary="Switch synchronisation off",
    status_code=204,
    responses=answers(404, 412, 428),
)
async def delete_directory(tenant: Writer, condition: Condition) -> None:
    """All users stay, and secrets are forgotten; the other settings stay to be seen, with `enabled` false.

    Who is flagged already goes when the delay ends, unless `freeze_on_disable` was chosen.
    """
    await Directories(tenant).switch_off(condition)
