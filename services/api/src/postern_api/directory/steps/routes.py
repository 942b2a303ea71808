"""/v1/customers/{c}/directory/steps."""

from typing import Annotated

from fastapi import APIRouter, Query

from postern_api.auth.roles import Permission
from postern_api.directory.steps.schemas import Steps
from postern_api.directory.steps.texts import STEPS
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.tenancy import Tenant, customer_scope
from postern_common.directory_documents import Provider

router = APIRouter(prefix="/v1/customers/{c}/directory", tags=["Directory"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DIRECTORY_READ)]
Wanted = Annotated[Provider, Query(description="Whose side.", examples=["entra"])]


@router.get(
    "/steps", operation_id="directory_steps", summary="Show the steps on the provider's side", responses=answers(404)
)
async def get_steps(tenant: Reader, provider: Wanted = "entra") -> Steps:
    """What is to be done there before the directory can be read, in order, with what is copied where."""
    del tenant
    return Steps(steps=list(STEPS[provider]))
