"""/v1/customers/{c}/users."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope
from postern_api.users.deletion import Deletions
from postern_api.users.schemas import EXAMPLE_ID, Flag, NewUser, User, UserList, UserPatch
from postern_api.users.service import Users
from postern_api.users.showing import shown, shown_one

router = APIRouter(prefix="/v1/customers/{c}/users", tags=["Users"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.USERS_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.USERS_WRITE)]
UserId = Annotated[str, Path(alias="id", max_length=100, description="The user's id.", examples=[EXAMPLE_ID])]


@router.get("", operation_id="users_list", summary="List users", responses=answers(404))
async def list_users(tenant: Reader, listing: Annotated[UserList, Query()]) -> Page[User]:
    """With their source, and secondary addresses grouped under them."""
    found, cursor = await Users(tenant).page(listing)
    return Page(items=await shown(tenant, found), next_cursor=cursor)


@router.post("", operation_id="users_create", summary="Add a user", status_code=201, responses=answers(404, 409))
async def add_user(tenant: Writer, body: NewUser, response: Response) -> User:
    """The primary address and each alias must be in one of the customer's domains, and in use by nobody.

    In a domain that is not verified yet the user is prepared: the addresses are kept for this customer and take no
    mail. When all licences are in use the answer is 409 `licence-limit`.
    """
    document = await Users(tenant).add(body)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/users/{document['_id']}"
    set_etag(response, document)
    return await shown_one(tenant, document)


@router.get("/{id}", operation_id="users_get", summary="Show a user", responses=answers(404))
async def get_user(tenant: Reader, user_id: UserId, response: Response) -> User:
    """With all addresses."""
    document = await Users(tenant).get(user_id)
    set_etag(response, document)
    return await shown_one(tenant, document)


@router.patch("/{id}", operation_id="users_update", summary="Change a user", responses=answers(404, 409, 412, 428))
async def patch_user(
    tenant: Writer, user_id: UserId, body: UserPatch, condition: Condition, response: Response
) -> User:
    """Apply a merge patch.

    409 `directory-has-it` for names, phones, notes, the primary address and aliases that the directory, which is read
    and has the user, would put back with the next run. Aliases by hand, the site and the settings are changed here.
    """
    document = await Users(tenant).change(user_id, body, condition)
    set_etag(response, document)
    return await shown_one(tenant, document)


@router.delete(
    "/{id}", operation_id="users_delete", summary="Delete a user", status_code=204, responses=answers(404, 412, 428)
)
async def delete_user(tenant: Writer, user_id: UserId, condition: Condition) -> None:
    """At once. If the directory still has them, the next synchronisation adds them back."""
    await Deletions(tenant).delete(user_id, condition)


@router.post(
    "/{id}/flag", operation_id="users_flag", summary="Flag a user for deletion", responses=answers(404, 409, 412)
)
async def flag_user(
    tenant: Writer,
    user_id: UserId,
    response: Response,
    body: Annotated[Flag | None, Body(description="When; by the customer's delay where nothing is sent.")] = None,
) -> User:
    """Access ends at once, mail flows, and the user is deleted at `due_at` unless unflagged before."""
    document = await Deletions(tenant).flag(user_id, body or Flag())
    set_etag(response, document)
    return await shown_one(tenant, document)


@router.post(
    "/{id}/unflag", operation_id="users_unflag", summary="Call a deletion off", responses=answers(404, 409, 412)
)
async def unflag_user(tenant: Writer, user_id: UserId, response: Response) -> User:
    """Everything is as it was.

    Somebody whom the directory does not have is flagged again by its next run. To keep them, `ignore` them instead:
    `POST …/directory/conflicts/actions`.
    """
    document = await Deletions(tenant).unflag(user_id)
    set_etag(response, document)
    return await shown_one(tenant, document)
