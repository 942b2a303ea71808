"""/v1/customers/{c}/directory/additions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.directory.additions.schemas import (
    EXAMPLE_ID,
    Addition,
    AdditionList,
    AdditionPatch,
    NewAddition,
    to_addition,
)
from postern_api.directory.additions.service import Additions
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/directory/additions", tags=["Directory"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DIRECTORY_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DIRECTORY_WRITE)]
AdditionId = Annotated[str, Path(alias="id", max_length=100, description="The addition's id.", examples=[EXAMPLE_ID])]


@router.get("", operation_id="directory_additions_list", summary="List additions", responses=answers(404))
async def list_additions(tenant: Reader, listing: Annotated[AdditionList, Query()]) -> Page[Addition]:
    """Addresses that were added to what the directory says."""
    found, cursor = await Additions(tenant).page(listing)
    return Page(items=[to_addition(document) for document in found], next_cursor=cursor)


@router.post(
    "",
    operation_id="directory_additions_create",
    summary="Add an addition",
    status_code=201,
    responses=answers(404, 409),
)
async def add_addition(tenant: Writer, body: NewAddition, response: Response) -> Addition:
    """The next run makes a user of it, with the directory's source; it is not flagged for missing there.

    Once the directory has the address, that entry takes over.
    """
    document = await Additions(tenant).add(body)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/directory/additions/{document['_id']}"
    set_etag(response, document)
    return to_addition(document)


@router.get("/{id}", operation_id="directory_additions_get", summary="Show an addition", responses=answers(404))
async def get_addition(tenant: Reader, addition_id: AdditionId, response: Response) -> Addition:
    """The address with its names."""
    document = await Additions(tenant).get(addition_id)
    set_etag(response, document)
    return to_addition(document)


@router.patch(
    "/{id}",
    operation_id="directory_additions_update",
    summary="Change an addition",
    responses=answers(404, 409, 412, 428),
)
async def patch_addition(
    tenant: Writer, addition_id: AdditionId, body: AdditionPatch, condition: Condition, response: Response
) -> Addition:
    """Apply a merge patch."""
    document = await Additions(tenant).change(addition_id, body, condition)
    set_etag(response, document)
    return to_addition(document)


@router.delete(
    "/{id}",
    operation_id="directory_additions_delete",
    summary="Remove an addition",
    status_code=204,
    responses=answers(404, 412, 428),
)
async def delete_addition(tenant: Writer, addition_id: AdditionId, condition: Condition) -> None:
    """The user made of it is from then on as any other of the directory: missing there, they are flagged."""
    await Additions(tenant).delete(addition_id, condition)
