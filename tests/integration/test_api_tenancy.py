"""Every route is asked by the wrong people: another tenant's administrator, nobody, and one who may only read."""

import pytest

from postern_api.agents.door import AgentDoor
from postern_api.app import create_app
from postern_api.auth.keys import digest
from postern_api.tenancy import CustomerDoor, PublicDoor, SignedInDoor
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import answering, set_up
from tests.servers.policies import put_policy
from tests.servers.routes import doors_of, routes_of

PLACES = {"name": "acme.com", "id": "{id}", "n": "0"}
WATCHED = (
    "customers", "domains", "sites", "users", "memberships", "sync_runs", "directories", "directory_exceptions",
    "directory_additions", "directory_requests", "agents", "agent_rounds", "agent_pages",
)  # fmt: skip


def requests(app, c):
    """Each route below `/v1` once: method, path and door."""
    for route in routes_of(app):
        (door,) = doors_of(route)
        for method in sorted(route.methods or ()):
            yield method, route.path.format(c=c, **PLACES), door


async def ask(api, method, path, token):
    headers = {"If-Match": "*"} if method in {"PUT", "PATCH", "DELETE"} else {}
    body = {} if method in {"POST", "PUT", "PATCH"} else None
    return await api.call(method, path, body, token=token, headers=headers)


async def whole_customer(api, name):
    """A customer with one of each thing; its path and an id for every kind of route."""
    customer = await api.customer(name)
    await api.verified(customer, f"{name.lower()}.com")
    await put_policy(api, f"{name.lower()}.com")
    site = (await api.post(f"{customer}/sites", {"servers": [{"host": "127.0.0.9"}]}, expect=201)).json()
    user = {"email": f"ann@{name.lower()}.com", "first_name": "Ann", "last_name": "Lee"}
    made = (await api.post(f"{customer}/users", user, expect=201)).json()
    await set_up(api, customer)
    run = (await api.post(f"{customer}/directory/sync", expect=202)).json()
    token = (await api.post(f"{customer}/tokens", {"name": "t", "role": "customer_admin"}, expect=201)).json()
    imported = (await api.post(f"{customer}/imports", {"text": f"bob@{name.lower()}.com"}, expect=202)).json()
    ids = {"sites": site["id"], "users": made["id"], "runs": run["id"], "tokens": token["id"]}
    ids |= {"imports": imported["id"]}
    group = {"email": f"staff@{name.lower()}.com", "name": "Staff", "members": [made["id"]]}
    left_out = {"kind": "user", "external_id": name}
    for kind, path, body in (
        ("groups", "groups", group),
        ("exceptions", "directory/exceptions", left_out),
        ("agents", "directory/agents", {"name": "server room"}),
        ("additions", "directory/additions", {"address": f"desk@{name.lower()}.com"}),
    ):
        ids[kind] = (await api.post(f"{customer}/{path}", body, expect=201)).json()["id"]
    return customer, token["token"], ids


def with_id(path, ids):
    kind = path.split("/{id}")[0].rsplit("/", 1)[-1]
    return path.replace("{id}", ids.get(kind, "msg_x"))


@pytest.mark.spec("T2")
async def test_every_route_answers_404_to_another_tenants_administrator(api):
    customer, _, ids = await whole_customer(api, "One")
    _, other, _ = await whole_customer(api, "Two")
    before = [await api.all(name) for name in WATCHED]
    asked = 0
    for method, path, door in requests(api.app, customer.rsplit("/", 1)[-1]):
        if isinstance(door, CustomerDoor):
            answer = await ask(api, method, with_id(path, ids).replace("acme.com", "one.com"), other)
            assert answer.status_code == 404, f"{method} {path}: {answer.status_code}"
            assert "One" not in answer.text
            asked += 1
    assert asked > 25
    assert [await api.all(name) for name in WATCHED] == before


@pytest.mark.spec("T2")
async def test_another_tenants_ids_are_404_below_ones_own_customer(api):
    _, _, ids = await whole_customer(api, "One")
    customer, token, _ = await whole_customer(api, "Two")
    for method, path, door in requests(api.app, customer.rsplit("/", 1)[-1]):
        if not isinstance(door, CustomerDoor) or ("{id}" not in path and "acme.com" not in path):
            continue
        answer = await ask(api, method, with_id(path, ids).replace("acme.com", "one.com"), token)
        assert answer.status_code in {404, 422}, f"{method} {path}: {answer.status_code}"
        if method in {"GET", "DELETE"}:
            assert answer.status_code == 404


@pytest.mark.spec("T2")
async def test_every_route_answers_401_to_nobody(api):
    for method, path, door in requests(api.app, "cus_x"):
        if isinstance(door, PublicDoor):
            continue
        for token in (None, "ptok_wrong", "pses_" + "0" * 32 + "_wrong"):
            answer = await ask(api, method, path, token)
            assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.spec("T2")
async def test_every_change_answers_403_to_an_auditor_and_every_look_is_allowed(api):
    async with answering(api, lambda question: {"entries": [], "truncated": False}):
        await ask_as_auditor(api)


async def ask_as_auditor(api):
    customer, _, ids = await whole_customer(api, "One")
    auditor = await api.token_for(customer, "customer_auditor")
    before = [await api.all(name) for name in WATCHED]
    for method, path, door in requests(api.app, customer.rsplit("/", 1)[-1]):
        if not isinstance(door, CustomerDoor):
            continue
        path = with_id(path, ids).replace("acme.com", "one.com")
        answer = await ask(api, method, path, auditor)
        if method == "GET":
            assert answer.status_code == 200 or path.endswith("msg_x"), f"{path}: {answer.status_code}"
        else:
            assert answer.status_code == 403, f"{method} {path}: {answer.status_code}"
            assert door.permission.changes
    assert [await api.all(name) for name in WATCHED] == before


@pytest.mark.spec("T2")
async def test_a_customers_administrator_has_no_right_above_the_customer(api):
    customer = await api.customer("One")
    admin = await api.token_for(customer)
    await api.post("/v1/customers", {"name": "Another"}, token=admin, expect=403)
    await api.delete(customer, token=admin, expect=403)
    await api.patch(customer, {"allowed_users": 5}, token=admin, expect=403)
    await api.patch(customer, {"name": "One more"}, token=admin, expect=200)


@pytest.mark.spec("T1")
async def test_each_level_sees_its_own_customers(api):
    partner = "par_" + "0" * 32
    theirs = await api.customer("Partner's")
    await api.mongo.collection(Collections.CUSTOMERS, PLATFORM).update_one({}, {"$set": {"partner_id": partner}})
    other = await api.customer("Other")
    admin = await api.token_for(other)
    tokens = api.mongo.collection(Collections.TOKENS, PLATFORM)
    document = (await api.all("tokens"))[0] | {
        "_id": "tok_partner",
        "hash": digest("partner-token"),
        "role": "partner_admin",
    }
    await tokens.insert_one(document | {"partner_id": partner, "customer_ids": [], "owner_id": "bootstrap"})

    async def names(token):
        return [one["name"] for one in (await api.get("/v1/customers", token=token, expect=200)).json()["items"]]

    assert await names("the-platform-token-of-these-tests") == ["Other", "Partner's"]
    assert await names("partner-token") == ["Partner's"]
    assert await names(admin) == ["Other"]
    await api.get(theirs, token="partner-token", expect=200)
    await api.get(other, token="partner-token", expect=404)
    made = (await api.post("/v1/customers", {"name": "New"}, token="partner-token", expect=201)).json()
    assert made["partner_id"] == partner
    foreign = {"name": "New", "partner_id": "par_" + "1" * 32}
    assert (await api.post("/v1/customers", foreign, token="partner-token")).status_code == 422


@pytest.mark.spec("T1")
async def test_nothing_of_partners_can_be_reached_before_there_are_partners(api):
    refused = await api.post("/v1/customers", {"name": "x", "partner_id": "par_" + "0" * 32}, expect=422)
    assert refused.json()["errors"][0]["pointer"] == "/partner_id"
    customer = await api.customer()
    for path, body in (("/v1/me/tokens", {}), (f"{customer}/tokens", {})):
        await api.post(path, body | {"name": "t", "role": "partner_admin"}, expect=422)
    for path in ("/v1/partners", "/v1/partners/par_x"):
        await api.get(path, expect=404)


@pytest.mark.spec("T2")
async def test_a_suspended_customer_looks_but_changes_nothing(api):
    customer = await api.customer()
    admin = await api.token_for(customer)
    customers = api.mongo.collection(Collections.CUSTOMERS, PLATFORM)
    await customers.update_one({}, {"$set": {"state": "suspended"}})
    await api.get(f"{customer}/domains", token=admin, expect=200)
    refused = await api.post(f"{customer}/domains", {"name": "acme.com"}, token=admin, expect=403)
    assert refused.json()["code"] == "customer-suspended"


def test_doors_are_of_the_four_kinds():
    kinds = {type(door) for route in routes_of(create_app()) for door in doors_of(route)}
    assert kinds == {PublicDoor, SignedInDoor, CustomerDoor, AgentDoor}
