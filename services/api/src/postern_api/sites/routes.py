"""/v1/customers/{c}/sites."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.sites import probe
from postern_api.sites.schemas import EXAMPLE_ID, NewSite, Site, SiteList, SitePatch, SiteTest, to_site
from postern_api.sites.service import Sites
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/sites", tags=["Sites"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.SITES_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.SITES_WRITE)]
SiteId = Annotated[str, Path(alias="id", max_length=100, description="The site's id.", examples=[EXAMPLE_ID])]


@router.get("", operation_id="sites_list", summary="List sites", responses=answers(404))
async def list_sites(tenant: Reader, listing: Annotated[SiteList, Query()]) -> Page[Site]:
    """The customer's sites with their servers."""
    found, cursor = await Sites(tenant).page(listing)
    return Page(items=[to_site(document) for document in found], next_cursor=cursor)


@router.post("", operation_id="sites_create", summary="Add a site", status_code=201, responses=answers(404, 409))
async def add_site(tenant: Writer, body: NewSite, response: Response) -> Site:
    """The customer's first site is the default one. Addresses inside this installation's networks are refused."""
    document = await Sites(tenant).add(body)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/sites/{document['_id']}"
    set_etag(response, document)
    return to_site(document)


@router.get("/{id}", operation_id="sites_get", summary="Show a site", responses=answers(404))
async def get_site(tenant: Reader, site_id: SiteId, response: Response) -> Site:
    """With its servers."""
    document = await Sites(tenant).get(site_id)
    set_etag(response, document)
    return to_site(document)


@router.put("/{id}", operation_id="sites_replace", summary="Replace a site", responses=answers(404, 409, 412, 428))
async def put_site(tenant: Writer, site_id: SiteId, body: NewSite, condition: Condition, response: Response) -> Site:
    """Servers that stay keep their ids."""
    document = await Sites(tenant).replace(site_id, body, condition)
    set_etag(response, document)
    return to_site(document)


@router.patch("/{id}", operation_id="sites_update", summary="Change a site", responses=answers(404, 409, 412, 428))
async def patch_site(
    tenant: Writer, site_id: SiteId, body: SitePatch, condition: Condition, response: Response
) -> Site:
    """Apply a merge patch. Making it the default ends that of the other one in the same step."""
    document = await Sites(tenant).change(site_id, body, condition)
    set_etag(response, document)
    return to_site(document)


@router.delete(
    "/{id}",
    operation_id="sites_delete",
    summary="Remove a site",
    status_code=204,
    responses=answers(404, 409, 412, 428),
)
async def delete_site(tenant: Writer, site_id: SiteId, condition: Condition) -> None:
    """Nothing may use it, and the default site goes last."""
    await Sites(tenant).delete(site_id, condition)


@router.post("/{id}/test", operation_id="sites_test", summary="Test inbound routing", responses=answers(404, 429))
async def run_test(tenant: Writer, site_id: SiteId) -> SiteTest:
    """Open SMTP to each server: banner, TLS, and whether it takes mail for each verified domain. No message is sent."""
    return await probe.run_test(tenant, site_id)
