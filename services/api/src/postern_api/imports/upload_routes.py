"""POST /v1/customers/{c}/imports: a file of users, as form, text or JSON."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from postern_api.auth.roles import Permission
from postern_api.http.etag import set_etag
from postern_api.http.faults import explain
from postern_api.http.idempotency import UploadRoute
from postern_api.http.openapi import answers
from postern_api.http.problems import Problem, invalid
from postern_api.http.uploads import PIECE, form_of, spooled
from postern_api.imports.schemas import (
    EXAMPLE_TEXT,
    MAX_TEXT,
    Existing,
    Import,
    ImportOptions,
    ImportText,
    to_import,
)
from postern_api.imports.service import Imports, Sent
from postern_api.imports.workbook_writer import MEDIA_TYPE as XLSX
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/imports", tags=["Imports"], route_class=UploadRoute)
Writer = Annotated[Tenant, customer_scope(Permission.USERS_WRITE)]
RAW_TYPES: Final = frozenset({"text/csv", "text/plain", "text/tab-separated-values", XLSX})
_EXISTING: Final = {
    "type": "string",
    "enum": ["update", "skip"],
    "default": "update",
    "description": "What happens to users who are there already.",
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "contentMediaType": "application/octet-stream",
                            "description": "A .csv or .xlsx file.",
                        },
                        "existing": _EXISTING,
                    },
                }
            },
            "text/csv": {"schema": {"type": "string", "description": "The file."}, "example": EXAMPLE_TEXT},
            "application/json": {"schema": ImportText.model_json_schema(), "example": {"text": EXAMPLE_TEXT}},
        },
    }
}


@router.post(
    "",
    operation_id="imports_create",
    summary="Review a file of users",
    status_code=202,
    responses=answers(404, 409, 415),
    openapi_extra=_BODY,
)
async def create(
    tenant: Writer, request: Request, response: Response, options: Annotated[ImportOptions, Query()]
) -> Import:
    """Nothing is saved yet: follow the review at `Location`, look at its rows, then apply it.

    Send a .csv or .xlsx file as `multipart/form-data`, the text itself as `text/csv`, or pasted rows as JSON. The
    first row names the columns, in any order and case: email (needed), first_name, last_name, home_phone, mobile,
    company, department, notes, alias1, alias2 and so on, site (its description or id). Without names the columns
    stand in this order, and those behind notes are aliases. Of users who are there already the columns of the file
    are updated, empty cells too; columns that the file does not have are left alone.
    """
    document = await Imports(tenant).add(await _sent(request, options.existing))
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/imports/{document['_id']}"
    set_etag(response, document)
    return to_import(document)


async def _sent(request: Request, existing: Existing | None) -> Sent:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _from_form(request, existing)
    body = await spooled(request)
    if media_type in RAW_TYPES:
        return Sent("", body.pieces(), existing or "update")
    if media_type != "application/json":
        message = "Send multipart/form-data with a file, text/csv, or application/json."
        raise Problem("unsupported-media-type", message, status=415)
    if body.octets > 2 * MAX_TEXT:
        raise Problem("body-too-large", "Send so many rows as a file.", status=413)
    try:
        pasted = ImportText.model_validate_json(b"".join([piece async for piece in body.pieces()]))
    except ValidationError as error:
        fault = error.errors()[0]
        pointer = "".join(f"/{part}" for part in fault["loc"])
        raise invalid(explain(fault, [ImportText]), pointer) from None
    chosen = pasted.existing if existing is None or "existing" in pasted.model_fields_set else existing
    return Sent("", _once(pasted.text.encode()), chosen)


async def _from_form(request: Request, existing: Existing | None) -> Sent:
    form = await form_of(request)
    unknown = sorted(set(form) - {"file", "existing"})
    file, chosen = form.get("file"), form.get("existing", existing or "update")
    if unknown:
        raise invalid("unknown field; known fields are: existing, file", f"/{unknown[0][:100]}")
    if not isinstance(file, UploadFile):
        raise invalid("a file is expected", "/file")
    if chosen not in {"update", "skip"}:
        raise invalid("one of these is expected: 'update' or 'skip'", "/existing")
    return Sent(file.filename or "", _pieces(file), "skip" if chosen == "skip" else "update")


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    try:
        while piece := await file.read(PIECE):
            yield piece
    finally:
        await file.close()


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
