"""/v1/customers/{c}/imports: what became of files of users."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.imports.schemas import (
    EXAMPLE_ID,
    Import,
    ImportList,
    ImportRow,
    ImportRowList,
    to_import,
    to_row,
)
from postern_api.imports.service import Imports
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/imports", tags=["Imports"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.USERS_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.USERS_WRITE)]
ImportId = Annotated[str, Path(alias="id", max_length=100, description="The import's id.", examples=[EXAMPLE_ID])]


@router.get("", operation_id="imports_list", summary="List imports", responses=answers(404))
async def list_imports(tenant: Reader, listing: Annotated[ImportList, Query()]) -> Page[Import]:
    """The newest first; each is kept for 14 days."""
    found, cursor = await Imports(tenant).page(listing)
    return Page(items=[to_import(document) for document in found], next_cursor=cursor)


@router.get("/{id}", operation_id="imports_get", summary="Show an import", responses=answers(404))
async def get_import(tenant: Reader, import_id: ImportId, response: Response) -> Import:
    """How far it is, what the review found, and what was saved."""
    document = await Imports(tenant).get(import_id)
    set_etag(response, document)
    return to_import(document)


@router.get("/{id}/rows", operation_id="imports_rows", summary="List an import's rows", responses=answers(404))
async def list_rows(tenant: Reader, import_id: ImportId, listing: Annotated[ImportRowList, Query()]) -> Page[ImportRow]:
    """What happens to each row and why, in the order of the file."""
    found, cursor = await Imports(tenant).rows(import_id, listing)
    return Page(items=[to_row(document) for document in found], next_cursor=cursor)


@router.post(
    "/{id}/apply",
    operation_id="imports_apply",
    summary="Save what was reviewed",
    status_code=202,
    responses=answers(404, 409),
)
async def apply(tenant: Writer, import_id: ImportId, response: Response) -> Import:
    """Exactly what the rows say, in their order.

    A row whose user, address, domain or site has moved since the review is left out, with the result `stale`; new
    users beyond the licences are left out with the result `left_out`.
    """
    document = await Imports(tenant).apply(import_id)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/imports/{import_id}"
    set_etag(response, document)
    return to_import(document)


@router.delete(
    "/{id}",
    operation_id="imports_delete",
    summary="Forget an import",
    status_code=204,
    responses=answers(404, 409, 412, 428),
)
async def delete_import(tenant: Writer, import_id: ImportId, condition: Condition) -> None:
    """A review under way ends. What an import saved stays."""
    await Imports(tenant).delete(import_id, condition)
