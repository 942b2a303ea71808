"""/v1/customers/{c}/directory/exceptions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.directory.exceptions.schemas import (
    EXAMPLE_ID,
    DirectoryException,
    ExceptionList,
    ExceptionPatch,
    NewException,
    to_exception,
)
from postern_api.directory.exceptions.service import Exceptions
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/directory/exceptions", tags=["Directory"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DIRECTORY_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DIRECTORY_WRITE)]
ExceptionId = Annotated[str, Path(alias="id", max_length=100, description="The exception's id.", examples=[EXAMPLE_ID])]


@router.get("", operation_id="directory_exceptions_list", summary="List exceptions", responses=answers(404))
async def list_exceptions(tenant: Reader, listing: Annotated[ExceptionList, Query()]) -> Page[DirectoryException]:
    """What the synchronisation leaves out."""
    found, cursor = await Exceptions(tenant).page(listing)
    return Page(items=[to_exception(document) for document in found], next_cursor=cursor)


@router.post(
    "",
    operation_id="directory_exceptions_create",
    summary="Add an exception",
    status_code=201,
    responses=answers(404, 409),
)
async def add_exception(tenant: Writer, body: NewException, response: Response) -> DirectoryException:
    """From the next run on. What that run would remove for it is held for approval.

    An exception that fits nothing in the directory stands among `skipped` of the run, as `exception_unmatched`.
    """
    document = await Exceptions(tenant).add(body)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/directory/exceptions/{document['_id']}"
    set_etag(response, document)
    return to_exception(document)


@router.get("/{id}", operation_id="directory_exceptions_get", summary="Show an exception", responses=answers(404))
async def get_exception(tenant: Reader, exception_id: ExceptionId, response: Response) -> DirectoryException:
    """What it leaves out."""
    document = await Exceptions(tenant).get(exception_id)
    set_etag(response, document)
    return to_exception(document)


@router.patch(
    "/{id}",
    operation_id="directory_exceptions_update",
    summary="Change an exception",
    responses=answers(404, 409, 412, 428),
)
async def patch_exception(
    tenant: Writer, exception_id: ExceptionId, body: ExceptionPatch, condition: Condition, response: Response
) -> DirectoryException:
    """Apply a merge patch; the kind stays."""
    document = await Exceptions(tenant).change(exception_id, body, condition)
    set_etag(response, document)
    return to_exception(document)


@router.delete(
    "/{id}",
    operation_id="directory_exceptions_delete",
    summary="Remove an exception",
    status_code=204,
    responses=answers(404, 412, 428),
)
async def delete_exception(tenant: Writer, exception_id: ExceptionId, condition: Condition) -> None:
    """The next run takes in what it left out."""
    await Exceptions(tenant).delete(exception_id, condition)
