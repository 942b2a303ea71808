"""/v1/customers/{c}/users/export, /v1/samples/users.csv and /v1/samples/users.xlsx."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from postern_api.auth.roles import Permission
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import PUBLIC, answers
from postern_api.imports.export import Export, sample_csv, sample_xlsx
from postern_api.imports.schemas import ExportQuery
from postern_api.imports.workbook_writer import MEDIA_TYPE as XLSX
from postern_api.tenancy import Tenant, customer_scope, public

CSV: Final = "text/csv"
CSV_UTF8: Final = "text/csv; charset=utf-8"
router = APIRouter(tags=["Imports"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.USERS_READ)]
_FILE: Final = {"type": "string", "description": "The file."}


def _file(*media_types: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": _FILE} for media_type in media_types}
    return {200: {"description": "The file.", "content": content}}


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


@router.get(
    "/v1/customers/{c}/users/export",
    operation_id="users_export",
    summary="Export users",
    response_class=Response,
    responses={**_file(CSV, XLSX), **answers(404, 409, 429)},
)
async def export(tenant: Reader, options: Annotated[ExportQuery, Query()]) -> StreamingResponse:
    """Mailbox owners with the columns that an import takes; importing the file changes nothing.

    A cell that a spreadsheet would compute has a `'` before it, which an import takes off again.
    """
    query = {name: value for name in ("state", "source") if (value := getattr(options, name)) is not None}
    exported = Export(tenant, query)
    if options.format == "xlsx":
        pieces = await exported.xlsx(tenant.resources.workbooks)
        return StreamingResponse(pieces, media_type=XLSX, headers=_attachment("users.xlsx"))
    return StreamingResponse(exported.csv(), media_type=CSV_UTF8, headers=_attachment("users.csv"))


@router.get(
    "/v1/samples/users.csv",
    operation_id="samples_users_csv",
    summary="Sample of a CSV file",
    dependencies=[public()],
    response_class=Response,
    responses=_file(CSV),
    openapi_extra=PUBLIC,
)
async def users_csv() -> Response:
    """Three users, to begin with."""
    return Response(sample_csv(), media_type=CSV_UTF8, headers=_attachment("users.csv"))


@router.get(
    "/v1/samples/users.xlsx",
    operation_id="samples_users_xlsx",
    summary="Sample of a workbook",
    dependencies=[public()],
    response_class=Response,
    responses=_file(XLSX),
    openapi_extra=PUBLIC,
)
async def users_xlsx() -> Response:
    """The same as a workbook."""
    return Response(sample_xlsx(), media_type=XLSX, headers=_attachment("users.xlsx"))
