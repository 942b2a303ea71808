"""/v1/customers/{c}/domains/{name}/mta-sts."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Response

from postern_api.auth.roles import Permission
from postern_api.domains.mta_sts.schemas import MtaSts, MtaStsInput, to_mta_sts
from postern_api.domains.mta_sts.service import Policies
from postern_api.domains.routes import Name
from postern_api.http.etag import Condition, OptionalCondition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers, tagged
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/domains/{name}/mta-sts", tags=["Domains"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DOMAINS_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DOMAINS_WRITE)]
_CREATED: Final[dict[int | str, dict[str, Any]]] = {201: {"model": MtaSts, "description": "It was set up."}}


def _shown(tenant: Tenant, domain: dict[str, Any], response: Response) -> MtaSts:
    shown = to_mta_sts(domain, tenant.resources.settings.api_policy_host, tenant.resources.now())
    set_etag(response, domain["mta_sts"], shown.check, shown.turning_off.possible)
    return shown


@router.get(
    "", operation_id="mta_sts_get", summary="Show a domain's MTA-STS policy", responses=answers(404) | tagged(200)
)
async def get_policy(tenant: Reader, name: Name, response: Response) -> MtaSts:
    """With what to publish, and what of it was found at the last look. 404 before it is set up."""
    return _shown(tenant, await Policies(tenant).get(name), response)


@router.put(
    "",
    operation_id="mta_sts_replace",
    summary="Host an MTA-STS policy for a domain, or change it",
    responses=answers(404, 409, 412, 428, 429) | tagged(200) | _CREATED,
)
async def put_policy(
    tenant: Writer, name: Name, body: MtaStsInput, condition: OptionalCondition, response: Response
) -> MtaSts:
    """The first time answers 201 and needs no `If-Match`.

    Begin with mode `testing`, publish the records, look at the reports, then `enforce`. Each change has a new id to
    publish. A policy to enforce that leaves out a server of the domain's MX records is answered 409 `mx-not-covered`
    with the servers in `hosts`.
    """
    domain, is_new = await Policies(tenant).put(name, body, condition)
    if is_new:
        response.status_code = 201
        response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/domains/{domain['name']}/mta-sts"
    return _shown(tenant, domain, response)


@router.delete(
    "",
    operation_id="mta_sts_delete",
    summary="Stop hosting a domain's MTA-STS policy",
    status_code=204,
    responses=answers(404, 409, 412, 428),
)
async def delete_policy(tenant: Writer, name: Name, condition: Condition) -> None:
    """409 `mta-sts-in-force` while senders may hold it: set mode `none` first, and wait until the time that
    `turning_off` names.
    """
    await Policies(tenant).delete(name, condition)


@router.post(
    "/check",
    operation_id="mta_sts_check",
    summary="Look at a domain's MTA-STS policy from outside now",
    responses=answers(404, 429),
)
async def check_policy(tenant: Writer, name: Name, response: Response) -> MtaSts:
    """Ask the DNS for the records, fetch the policy as a sender would, and answer with what was found."""
    return _shown(tenant, await Policies(tenant).check(name), response)
