"""/v1/customers/{c}/domains."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from postern_api.auth.roles import Permission
from postern_api.domains.removal import remove_domain
from postern_api.domains.schemas import (
    Domain,
    DomainList,
    DomainPatch,
    MailRecord,
    NewDomain,
    to_domain,
    to_mail_record,
)
from postern_api.domains.service import Domains
from postern_api.http.etag import Condition, set_etag
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.http.schemas import Page
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/domains", tags=["Domains"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.DOMAINS_READ)]
Writer = Annotated[Tenant, customer_scope(Permission.DOMAINS_WRITE)]
Name = Annotated[str, Path(max_length=300, description="The domain's name, in any spelling.", examples=["example.com"])]


def _set_etag(response: Response, document: dict[str, Any]) -> None:
    set_etag(response, document, document["last_check"], document["next_check_at"])


@router.get("", operation_id="domains_list", summary="List domains", responses=answers(404))
async def list_domains(tenant: Reader, listing: Annotated[DomainList, Query()]) -> Page[Domain]:
    """The customer's domains in any state."""
    found, cursor = await Domains(tenant).page(listing)
    return Page(items=[to_domain(document) for document in found], next_cursor=cursor)


@router.post("", operation_id="domains_create", summary="Add a domain", status_code=201, responses=answers(404, 409))
async def add_domain(tenant: Writer, body: NewDomain, response: Response) -> Domain:
    """The answer holds the TXT record to publish, at either of two places.

    The domain is looked at by itself for 72 hours. Adding it again answers 409 with the domain as it is in
    `existing`. A domain that another customer has verified can be claimed; nothing moves by itself.
    """
    document = await Domains(tenant).add(body)
    response.headers["Location"] = f"/v1/customers/{tenant.customer_id}/domains/{document['name']}"
    _set_etag(response, document)
    return to_domain(document)


@router.get("/{name}", operation_id="domains_get", summary="Show a domain", responses=answers(404))
async def get_domain(tenant: Reader, name: Name, response: Response) -> Domain:
    """With what to publish and what was found last."""
    document = await Domains(tenant).get(name)
    _set_etag(response, document)
    return to_domain(document)


@router.patch("/{name}", operation_id="domains_update", summary="Change a domain", responses=answers(404, 412, 428))
async def patch_domain(
    tenant: Writer, name: Name, body: DomainPatch, condition: Condition, response: Response
) -> Domain:
    """Choose the site that its mail goes to."""
    document = await Domains(tenant).change(name, body, condition)
    _set_etag(response, document)
    return to_domain(document)


@router.delete(
    "/{name}",
    operation_id="domains_delete",
    summary="Remove a domain",
    status_code=204,
    responses=answers(404, 412, 428),
)
async def delete_domain(tenant: Writer, name: Name, condition: Condition) -> None:
    """Users whose primary address is in it are removed at once, secondary addresses in it are taken off their users.

    Added again, it gets a new code and is verified anew. Its MTA-STS policy is served no longer: end one that senders
    hold by mode `none` before, or they bring no mail to other servers until it has run out.
    """
    await remove_domain(tenant, name, condition)


@router.post("/{name}/verify", operation_id="domains_verify", summary="Check a domain now", responses=answers(404, 429))
async def verify_domain(tenant: Writer, name: Name, response: Response) -> Domain:
    """Ask the domain's name servers now, and answer with what they said.

    A verified domain stays so whatever is found. An expired one is verified if the record is there, and stays expired
    otherwise.
    """
    document = await Domains(tenant).verify(name)
    _set_etag(response, document)
    return to_domain(document)


@router.post(
    "/{name}/restart", operation_id="domains_restart", summary="Restart an expired domain", responses=answers(404, 409)
)
async def restart_domain(tenant: Writer, name: Name, response: Response) -> Domain:
    """Another 72 hours, with the same code."""
    document = await Domains(tenant).restart(name)
    _set_etag(response, document)
    return to_domain(document)


@router.get("/{name}/mx", operation_id="domains_mx", summary="Show the state of a domain's MX", responses=answers(404))
async def get_mx(tenant: Reader, name: Name) -> MailRecord:
    """As it was found at the daily look."""
    return to_mail_record((await Domains(tenant).get(name))["mx"])


@router.get(
    "/{name}/spf", operation_id="domains_spf", summary="Show the state of a domain's SPF record", responses=answers(404)
)
async def get_spf(tenant: Reader, name: Name) -> MailRecord:
    """As it was found at the daily look."""
    return to_mail_record((await Domains(tenant).get(name))["spf"])
