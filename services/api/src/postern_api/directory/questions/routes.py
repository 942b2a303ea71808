"""/v1/customers/{c}/directory/test and /entries."""

from typing import Annotated

from fastapi import APIRouter, Body, Query

from postern_api.auth.roles import Permission
from postern_api.directory.questions.schemas import DirectoryTest, Entries, EntryQuery, to_entries, to_test
from postern_api.directory.questions.service import Questions
from postern_api.directory.settings.schemas import DirectoryInput
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/directory", tags=["Directory"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DIRECTORY_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DIRECTORY_WRITE)]


@router.post(
    "/test", operation_id="directory_test", summary="Test the directory's settings", responses=answers(404, 409, 429)
)
async def run_test(
    tenant: Writer,
    body: Annotated[
        DirectoryInput | None, Body(description="Settings to test; the stored ones where none are sent.")
    ] = None,
) -> DirectoryTest:
    """Go into the directory step by step and tell precisely what fails. Nothing is stored.

    A secret that is left out is the stored one, on the same terms as in a change of the settings.
    """
    return to_test(await Questions(tenant).test(body))


@router.get(
    "/entries",
    operation_id="directory_entries",
    summary="Look at the directory's entries",
    responses=answers(404, 409, 429),
)
async def list_entries(tenant: Reader, query: Annotated[EntryQuery, Query()]) -> Entries:
    """Users, groups or aliases as they stand in the directory, for choosing exceptions."""
    return to_entries(await Questions(tenant).entries(query))
