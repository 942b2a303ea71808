"""The table of roles, and that every route stands behind exactly one door."""

from datetime import UTC, datetime, timedelta

import pytest

from postern_api.app import create_app
from postern_api.auth.roles import GRANTS, MAY_GIVE, Permission, Principal, Role
from postern_api.http.problems import Problem
from postern_api.tenancy import CustomerDoor, PublicDoor
from postern_api.tokens.service import expiry, given_scopes
from tests.servers.routes import doors_of, routes_of

NOW = datetime(2026, 1, 31, tzinfo=UTC)
ROUTES = [(route, method) for route in routes_of(create_app()) for method in sorted(route.methods or ())]
NAMES = [f"{method} {route.path}" for route, method in ROUTES]
PUBLIC = {"/v1/auth/sign-in", "/openapi.json", "/asyncapi.json", "/docs", "/docs/assets/{name}", "/livez"}
PUBLIC |= {"/v1/samples/users.csv", "/v1/samples/users.xlsx", "/v1/agent/enrol"}


def principal(role, **fields):
    values = {"id": "x", "owner_id": "x", "name": "x", "partner_id": None, "customer_ids": frozenset(), "scopes": None}
    return Principal(role=role, **(values | {"expires_at": NOW + timedelta(days=30)} | fields))


@pytest.mark.spec("T2")
@pytest.mark.parametrize(("route", "method"), ROUTES, ids=NAMES)
def test_every_route_declares_exactly_one_door(route, method):
    (door,) = doors_of(route)
    assert isinstance(door, PublicDoor) == (route.path in PUBLIC)
    assert isinstance(door, CustomerDoor) == route.path.startswith("/v1/customers/{c}")
    if method != "GET" and not door.is_public and door.permission is not None:
        assert door.permission.changes


@pytest.mark.spec("T2")
def test_auditors_change_nothing_but_their_own_tokens():
    assert {one for one in GRANTS[Role.CUSTOMER_AUDITOR] if one.changes} == {Permission.SELF_WRITE}


@pytest.mark.spec("T2")
def test_each_role_may_do_what_the_one_below_may():
    assert GRANTS[Role.CUSTOMER_AUDITOR] < GRANTS[Role.CUSTOMER_ADMIN] < GRANTS[Role.PARTNER_ADMIN]
    assert GRANTS[Role.PARTNER_ADMIN] <= GRANTS[Role.PLATFORM_ADMIN]
    for role, given in MAY_GIVE.items():
        assert all(GRANTS[one] <= GRANTS[role] for one in given)


@pytest.mark.spec("T1")
def test_a_principal_sees_the_customers_of_its_level():
    assert principal(Role.PLATFORM_ADMIN).sees("cus_a", None)
    assert principal(Role.PARTNER_ADMIN, partner_id="par_a").sees("cus_a", "par_a")
    assert not principal(Role.PARTNER_ADMIN, partner_id="par_a").sees("cus_a", "par_b")
    assert not principal(Role.PARTNER_ADMIN).sees("cus_a", None)
    assert principal(Role.CUSTOMER_ADMIN, customer_ids=frozenset({"cus_a"})).sees("cus_a", None)
    assert not principal(Role.CUSTOMER_ADMIN, customer_ids=frozenset({"cus_a"})).sees("cus_b", None)


@pytest.mark.spec("T4")
def test_scopes_narrow_a_role_and_never_widen_it():
    narrow = principal(Role.CUSTOMER_AUDITOR, scopes=frozenset({Permission.DOMAINS_READ, Permission.DOMAINS_WRITE}))
    assert narrow.may(Permission.DOMAINS_READ)
    assert not narrow.may(Permission.DOMAINS_WRITE)
    assert not narrow.may(Permission.USERS_READ)
    assert given_scopes(narrow, Role.CUSTOMER_AUDITOR, None) == frozenset({Permission.DOMAINS_READ})
    with pytest.raises(Problem):
        given_scopes(narrow, Role.CUSTOMER_AUDITOR, [Permission.USERS_READ])


@pytest.mark.spec("T4")
def test_a_token_ends_within_a_year_and_not_after_its_maker():
    assert expiry(None, NOW, None) == NOW + timedelta(days=90)
    assert expiry(None, NOW, NOW + timedelta(days=3)) == NOW + timedelta(days=3)
    for wanted, bound in ((366, None), (4, 3), (0, None), (-1, None)):
        with pytest.raises(Problem):
            expiry(NOW + timedelta(days=wanted), NOW, None if bound is None else NOW + timedelta(days=bound))
