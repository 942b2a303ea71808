"""/v1/customers/{c}/deleted-users."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.http.etag import set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope
from postern_api.users.deleted_schemas import DeletedUser, DeletedUserList, to_deleted
from postern_api.users.restoring import DeletedUsers
from postern_api.users.schemas import EXAMPLE_ID, User
from postern_api.users.showing import shown_one

router = APIRouter(prefix="/v1/customers/{c}/deleted-users", tags=["Users"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.USERS_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.USERS_WRITE)]
UserId = Annotated[str, Path(alias="id", max_length=100, description="The user's id.", examples=[EXAMPLE_ID])]


@router.get("", operation_id="deleted_users_list", summary="List deleted users", responses=answers(404))
async def list_deleted(tenant: Reader, listing: Annotated[DeletedUserList, Query()]) -> Page[DeletedUser]:
    """Those who can be restored, for as long as the customer's retention keeps them."""
    found, cursor = await DeletedUsers(tenant).page(listing)
    return Page(items=[to_deleted(document) for document in found], next_cursor=cursor)


@router.post(
    "/{id}/restore", operation_id="deleted_users_restore", summary="Restore a user", responses=answers(404, 409)
)
async def restore_user(tenant: Writer, user_id: UserId, response: Response) -> User:
    """Under the same id, active, with the addresses that are still free; their rules are gone.

    A user of a directory that no longer has them comes back as one entered by hand, so that the next run does not flag
    them again.
    """
    document = await DeletedUsers(tenant).restore(user_id)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/users/{document['_id']}"
    set_etag(response, document)
    return await shown_one(tenant, document)
