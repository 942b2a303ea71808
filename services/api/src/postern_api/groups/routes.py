"""/v1/customers/{c}/groups."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.groups.members import Members
from postern_api.groups.schemas import (
    EXAMPLE_ID,
    Group,
    GroupDetail,
    GroupList,
    GroupPatch,
    Member,
    MemberChange,
    MemberList,
    MembersChanged,
    NewGroup,
    to_detail,
    to_group,
)
from postern_api.groups.service import Groups
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/groups", tags=["Groups"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.USERS_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.USERS_WRITE)]
GroupId = Annotated[str, Path(alias="id", max_length=100, description="The group's id.", examples=[EXAMPLE_ID])]


@router.get("", operation_id="groups_list", summary="List groups", responses=answers(404))
async def list_groups(tenant: Reader, listing: Annotated[GroupList, Query()]) -> Page[Group]:
    """Distribution lists and groups, from the directory and by hand."""
    found, cursor = await Groups(tenant).page(listing)
    return Page(items=[to_group(document) for document in found], next_cursor=cursor)


@router.post("", operation_id="groups_create", summary="Add a list", status_code=201, responses=answers(404, 409))
async def add_group(tenant: Writer, body: NewGroup, response: Response) -> GroupDetail:
    """A list that is kept by hand. It takes mail and costs no licence."""
    groups = Groups(tenant)
    document = await groups.add(body)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/groups/{document['_id']}"
    set_etag(response, document)
    return to_detail(document, await groups.count(document["_id"]))


@router.get("/{id}", operation_id="groups_get", summary="Show a group", responses=answers(404))
async def get_group(tenant: Reader, group_id: GroupId, response: Response) -> GroupDetail:
    """With how many are in it."""
    groups = Groups(tenant)
    document = await groups.get(group_id)
    members = await groups.count(group_id)
    set_etag(response, document, members)
    return to_detail(document, members)


@router.patch("/{id}", operation_id="groups_update", summary="Rename a list", responses=answers(404, 409, 412, 428))
async def patch_group(
    tenant: Writer, group_id: GroupId, body: GroupPatch, condition: Condition, response: Response
) -> GroupDetail:
    """One that is kept by hand; groups of the directory are changed there."""
    groups = Groups(tenant)
    document = await groups.change(group_id, body, condition)
    members = await groups.count(group_id)
    set_etag(response, document, members)
    return to_detail(document, members)


@router.delete(
    "/{id}",
    operation_id="groups_delete",
    summary="Remove a list",
    status_code=204,
    responses=answers(404, 409, 412, 428),
)
async def delete_group(tenant: Writer, group_id: GroupId, condition: Condition) -> None:
    """One that is kept by hand. Its members stay."""
    await Groups(tenant).delete(group_id, condition)


@router.get(
    "/{id}/members", operation_id="groups_members", summary="List a group's members", responses=answers(404, 409)
)
async def list_members(tenant: Reader, group_id: GroupId, listing: Annotated[MemberList, Query()]) -> Page[Member]:
    """Direct members, groups among them; with `nested=true` everybody whom mail for the group reaches."""
    members, cursor = await Members(tenant, group_id).page(listing)
    return Page(items=members, next_cursor=cursor)


@router.post(
    "/{id}/members", operation_id="groups_change_members", summary="Change a group's members",
    responses=answers(404, 409),
)  # fmt: skip
async def change_members(tenant: Writer, group_id: GroupId, body: MemberChange) -> MembersChanged:
    """Members that are put in by hand stay when the directory does not name them, in its own groups too."""
    return await Groups(tenant).change_members(group_id, body)
