"""/v1/customers and /v1/customers/{c}."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from postern_api.auth.roles import Permission
from postern_api.customers.schemas import Customer, CustomerList, CustomerPatch, NewCustomer, to_customer
from postern_api.customers.service import Customers, CustomerSettings
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Caller, Tenant, customer_scope, signed_in

router = APIRouter(prefix="/v1/customers", tags=["Customers"], route_class=IdempotentRoute)


@router.get("", operation_id="customers_list", summary="List customers")
async def list_customers(
    caller: Annotated[Caller, signed_in(Permission.CUSTOMERS_READ)], listing: Annotated[CustomerList, Query()]
) -> Page[Customer]:
    """Those that you administer."""
    found, cursor = await Customers(caller).page(listing)
    return Page(items=[to_customer(document) for document in found], next_cursor=cursor)


@router.post("", operation_id="customers_create", summary="Add a customer", status_code=201, responses=answers(409))
async def create_customer(
    caller: Annotated[Caller, signed_in(Permission.CUSTOMERS_CREATE)], body: NewCustomer, response: Response
) -> Customer:
    """For the platform and for partners."""
    document = await Customers(caller).create(body)
    response.headers["Location"] = f"/v1/customers/{document['_id']}"
    set_etag(response, document)
    return to_customer(document)


@router.get("/{c}", operation_id="customers_get", summary="Show a customer", responses=answers(404))
async def get_customer(
    tenant: Annotated[Tenant, customer_scope(Permission.CUSTOMERS_READ)], response: Response
) -> Customer:
    """Its settings."""
    set_etag(response, tenant.customer)
    return to_customer(tenant.customer)


@router.patch("/{c}", operation_id="customers_update", summary="Change a customer", responses=answers(404, 412, 428))
async def patch_customer(
    tenant: Annotated[Tenant, customer_scope(Permission.CUSTOMERS_WRITE)],
    body: CustomerPatch,
    condition: Condition,
    response: Response,
) -> Customer:
    """Apply a merge patch.

    A new deletion delay holds at once for users flagged already too, counted from their flag; a shorter one never lets
    a user go within 24 hours. Their `due_at` follows within moments, each with the event `UserFlaggedForDeletion`; who
    was given a date keeps it.
    """
    document = await CustomerSettings(tenant).change(body, condition)
    set_etag(response, document)
    return to_customer(document)


@router.delete(
    "/{c}",
    operation_id="customers_delete",
    summary="Remove a customer",
    status_code=204,
    responses=answers(404, 409, 412, 428),
)
async def delete_customer(
    tenant: Annotated[Tenant, customer_scope(Permission.CUSTOMERS_DELETE)], condition: Condition
) -> None:
    """It must hold no domain, user or site any more."""
    await CustomerSettings(tenant).delete(condition)
