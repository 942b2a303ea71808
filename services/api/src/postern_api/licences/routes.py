"""/v1/customers/{c}/licences."""

import asyncio
from typing import Annotated

from fastapi import APIRouter

from postern_api.auth.roles import Permission
from postern_api.http.idempotency import IdempotentRoute
from postern_api.http.openapi import answers
from postern_api.licences.schemas import Licences, NotCounted
from postern_api.licences.store import LicenceStore
from postern_api.tenancy import Tenant, customer_scope

router = APIRouter(prefix="/v1/customers/{c}/licences", tags=["Licences"], route_class=IdempotentRoute)
Reader = Annotated[Tenant, customer_scope(Permission.LICENCES_READ)]


@router.get("", operation_id="licences_get", summary="Show licences", responses=answers(404))
async def get_licences(tenant: Reader) -> Licences:
    """At the limit no further user is added, by hand or by a synchronisation; mail keeps flowing (SPEC T6)."""
    store = LicenceStore(tenant.resources.mongo, tenant.scope)
    kinds = ("user", *NotCounted.model_fields)
    counts = dict(zip(kinds, await asyncio.gather(*(store.count(kind) for kind in kinds)), strict=True))
    used, allowed = counts.pop("user"), tenant.customer["allowed_users"]
    left = None if allowed is None else max(0, allowed - used)
    return Licences(allowed=allowed, used=used, left=left, not_counted=NotCounted(**counts))
