"""The one door to the data (SPEC T2): every route declares what it needs, and gets what it may touch.

`customer_scope(Permission.X)` recognises the principal, checks role and tenant, and hands out a `Tenant` whose scope
is the only way to documents. A customer that the principal does not administer is answered 404, whether it exists or
not; a right that is missing in one's own tenant 403. A route without a door fails a test.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from fastapi import Depends, Path, Request

from postern_api.auth import keys
from postern_api.auth.roles import Permission, Principal
from postern_api.auth.service import Authenticator
from postern_api.customers.store import CustomerStore
from postern_api.http import idempotency
from postern_api.http.pagination import Pager, place_of
from postern_api.http.problems import Problem, forbidden, not_found, unauthorized
from postern_api.http.schemas import ListQuery
from postern_api.resources import Resources, resources_of
from postern_common.documents import CustomerDocument
from postern_common.mongo import TenantScope

COOKIE: Final = "postern_session"
CSRF_COOKIE: Final = "postern_csrf"
CSRF_HEADER: Final = "X-CSRF-Token"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_SECRET_TEXT: Final = 500


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and with what the answer is made."""

    principal: Principal
    resources: Resources
    path: str

    def pager(self, listing: ListQuery) -> Pager:
        """Reads pages of the list at this path; its cursors hold for this principal's view only."""
        place = f"{self.principal.owner_id} {place_of(self.path, listing)}"
        return Pager(self.resources.secrets.signer("cursor"), place)


@dataclass(frozen=True, slots=True)
class Tenant(Caller):
    """A customer that the principal may touch; `scope` leads to its documents."""

    scope: TenantScope
    customer: CustomerDocument

    @property
    def customer_id(self) -> str:
        """The customer's id."""
        return self.scope.customer_id


class Door:
    """What a route declares as its dependency. `permission` None asks for nothing but what the class says."""

    permission: Permission | None = None
    is_public = False


class PublicDoor(Door):
    """No sign-in is needed."""

    is_public = True

    async def __call__(self) -> None:
        """Let everybody in."""


class SignedInDoor(Door):
    """Anybody who is recognised and has the permission, whatever the tenant."""

    def __init__(self, permission: Permission | None = None) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Caller:
        """The caller; 401 and 403 otherwise."""
        resources = resources_of(request)
        principal = await _principal(request, resources)
        if self.permission is not None and not principal.may(self.permission):
            raise forbidden()
        await idempotency.begin(request, principal, resources)
        return Caller(principal, resources, request.url.path)


class CustomerDoor(Door):
    """Those who administer the customer of the path and have the permission."""

    def __init__(self, permission: Permission) -> None:
        self.permission: Permission = permission

    async def __call__(
        self,
        request: Request,
        c: Annotated[
            str,
            Path(max_length=100, description="The customer's id.", examples=["cus_0192f0c1a8b47c3e9d215b7f10aa3c55"]),
        ],
    ) -> Tenant:
        """The tenant; 401, 404 and 403 otherwise."""
        resources = resources_of(request)
        principal = await _principal(request, resources)
        customer = await CustomerStore(resources.mongo).get(c)
        if customer is None or not principal.sees(c, customer["partner_id"]):
            raise not_found()
        if not principal.may(self.permission):
            raise forbidden()
        if (
            customer["state"] == "suspended"
            and self.permission.changes
            and not principal.may(Permission.CUSTOMERS_CREATE)
        ):
            raise Problem("customer-suspended", "This customer is suspended: nothing can be changed.", status=403)
        await idempotency.begin(request, principal, resources)
        return Tenant(principal, resources, request.url.path, TenantScope(c), customer)


def customer_scope(permission: Permission) -> Any:
    """The dependency of a route below a customer."""
    return Depends(CustomerDoor(permission))


def signed_in(permission: Permission | None = None) -> Any:
    """The dependency of a route that belongs to no customer."""
    return Depends(SignedInDoor(permission))


def public() -> Any:
    """The dependency of a route for everybody."""
    return Depends(PublicDoor())


async def _principal(request: Request, resources: Resources) -> Principal:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    by_cookie = not scheme
    secret_text = request.cookies.get(COOKIE, "") if by_cookie else text.strip()
    if (not by_cookie and scheme.lower() != "bearer") or not 0 < len(secret_text) <= MAX_SECRET_TEXT:
        raise unauthorized()
    principal = await Authenticator(resources).recognise(secret_text)
    if principal is None:
        raise unauthorized("The token or session is not known, or has ended.")
    if by_cookie and request.method not in SAFE_METHODS:
        _check_csrf(request, principal)
    structlog.contextvars.bind_contextvars(principal_id=principal.id)
    return principal


def _check_csrf(request: Request, principal: Principal) -> None:
    given = request.headers.get(CSRF_HEADER, "")
    if principal.csrf_token is None or not keys.same(given, principal.csrf_token):
        message = f"Send {CSRF_HEADER} with the value of the {CSRF_COOKIE} cookie."
        raise Problem("csrf-failed", message, status=403)
