"""Groups over HTTP: from the directory and by hand, with members and groups within groups."""

import pytest

from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import api, place, prepared  # noqa: F401 - fixtures
from tests.servers.directory import put_user


@pytest.fixture
async def customer(api):
    """A customer with a verified domain."""
    path = await api.customer()
    await api.verified(path, "acme.com")
    return path


async def put_group(api, customer, name, members=(), source="ldap"):
    """A group as a synchronisation stores it."""
    group = await put_user(api, customer, f"{name}@acme.com", kind="list", source=source, first_name="", last_name=name)
    await put_members(api, group, members, source)
    return group


async def put_members(api, group, members, source="ldap"):
    rows = [
        {"customer_id": group["customer_id"], "group_id": group["_id"], "member_id": one["_id"], "source": source}
        for one in members
    ]
    if rows:
        await api.mongo.collection(Collections.MEMBERSHIPS, PLATFORM).insert_many(rows)


async def members_of(api, customer, group, query=""):
    found, cursor = [], ""
    while cursor is not None:
        page = (await api.get(f"{customer}/groups/{group['_id']}/members?limit=3{query}{cursor}", expect=200)).json()
        found += page["items"]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    return found


def emails(found):
    return sorted(one["email"].removesuffix("@acme.com") for one in found)


@pytest.mark.spec("S7")
async def test_groups_are_listed_apart_from_users(api, customer):
    ann = await put_user(api, customer, "ann@acme.com")
    await put_group(api, customer, "sales", [ann])
    staff = await put_group(api, customer, "staff", source="entra")
    listed = (await api.get(f"{customer}/groups", expect=200)).json()["items"]
    assert [(one["email"], one["name"]) for one in listed] == [("sales@acme.com", "sales"), ("staff@acme.com", "staff")]
    found = (await api.get(f"{customer}/groups?source=entra&search=STA", expect=200)).json()["items"]
    assert [one["id"] for one in found] == [staff["_id"]]
    shown = (await api.get(f"{customer}/groups/{staff['_id']}", expect=200)).json()
    assert (shown["members"], shown["source"]) == (0, "entra")
    await api.get(f"{customer}/groups/{ann['_id']}", expect=404)
    await api.get(f"{customer}/groups/{ann['_id']}/members", expect=404)


@pytest.mark.spec("S7")
async def test_members_are_paged_with_their_source(api, customer):
    users = [await put_user(api, customer, f"u{number}@acme.com") for number in range(8)]
    group = await put_group(api, customer, "sales", users[:7])
    await put_members(api, group, users[7:], "manual")
    found = await members_of(api, customer, group)
    assert emails(found) == [f"u{number}" for number in range(8)]
    assert {one["email"]: one["source"] for one in found}["u7@acme.com"] == "manual"
    assert all(one["is_direct"] for one in found)
    backwards = await members_of(api, customer, group, "&sort=-id")
    assert [one["id"] for one in backwards] == [one["id"] for one in reversed(found)]
    assert (await api.get(f"{customer}/groups/{group['_id']}")).json()["members"] == 8


@pytest.mark.spec("S7")
async def test_nested_groups_end(api, customer):
    ann, bob, eve, joe = [await put_user(api, customer, f"{name}@acme.com") for name in ("ann", "bob", "eve", "joe")]
    inner = await put_group(api, customer, "inner", [bob, eve])
    middle = await put_group(api, customer, "middle", [inner, ann, bob])
    outer = await put_group(api, customer, "outer", [middle, ann])
    await put_members(api, inner, [outer, inner])
    await put_group(api, customer, "apart", [joe])
    assert emails(await members_of(api, customer, outer)) == ["ann", "middle"]
    for group in (outer, middle, inner):
        assert emails(await members_of(api, customer, group, "&nested=true")) == ["ann", "bob", "eve"]
    direct = {one["email"]: one["is_direct"] for one in await members_of(api, customer, outer, "&nested=true")}
    assert direct == {"ann@acme.com": True, "bob@acme.com": False, "eve@acme.com": False}


@pytest.mark.spec("S7")
async def test_who_is_in_many_groups_is_named_once(api, customer):
    users = [await put_user(api, customer, f"u{number}@acme.com") for number in range(5)]
    groups = [await put_group(api, customer, f"g{number}", users) for number in range(30)]
    outer = await put_group(api, customer, "outer", groups)
    assert emails(await members_of(api, customer, outer, "&nested=true")) == [f"u{number}" for number in range(5)]


@pytest.mark.spec("S7")
async def test_groups_with_too_many_within_are_refused_and_not_looked_through(api, customer, monkeypatch):
    monkeypatch.setattr("postern_api.groups.members.MAX_WITHIN", 3)
    groups = [await put_group(api, customer, f"g{number}", []) for number in range(5)]
    outer = await put_group(api, customer, "outer", groups)
    refused = await api.get(f"{customer}/groups/{outer['_id']}/members?nested=true", expect=409)
    assert refused.json()["code"] == "limit-reached"
    assert len(await members_of(api, customer, outer)) == 5
    monkeypatch.setattr("postern_api.groups.members.MAX_DEPTH", 3)
    chain = await put_group(api, customer, "chain0", [])
    for number in range(1, 3):
        chain = await put_group(api, customer, f"chain{number}", [chain])
    await members_of(api, customer, chain, "&nested=true")
    deep = await put_group(api, customer, "deep", [chain])
    await api.get(f"{customer}/groups/{deep['_id']}/members?nested=true", expect=409)


@pytest.mark.spec("S7", "T6")
async def test_a_list_is_kept_by_hand(api, customer):
    ann, bob = [await put_user(api, customer, f"{name}@acme.com", source="manual") for name in ("ann", "bob")]
    await api.patch(customer, {"allowed_users": 2}, expect=200)
    body = {"email": "Staff@acme.com", "name": "All staff", "aliases": ["all@acme.com"], "members": [ann["_id"]]}
    answer = await api.post(f"{customer}/groups", body, expect=201)
    made = answer.json()
    path = f"{customer}/groups/{made['id']}"
    assert answer.headers["Location"] == path
    assert (made["email"], made["name"], made["aliases"]) == ("Staff@acme.com", "All staff", ["all@acme.com"])
    assert (made["source"], made["members"]) == ("manual", 1)
    taken = await api.post(f"{customer}/groups", {"email": "ALL@acme.com", "name": "x"}, expect=409)
    assert taken.json()["code"] == "address-taken"
    await api.post(f"{customer}/groups", {"email": "x@elsewhere.com", "name": "x"}, expect=422)
    await api.post(f"{customer}/groups", {"email": "x@acme.com", "name": "x", "members": ["usr_x"]}, expect=422)
    changed = await api.post(f"{path}/members", {"add": [bob["_id"], ann["_id"]], "remove": []}, expect=200)
    assert changed.json() == {"added": 1, "removed": 0}
    assert (await api.patch(path, {"name": "Everybody"}, expect=200)).json()["name"] == "Everybody"
    changed = await api.post(f"{path}/members", {"remove": [ann["_id"], "usr_x"]}, expect=200)
    assert changed.json() == {"added": 0, "removed": 1}
    for wrong in ({"add": [made["id"]]}, {"add": ["usr_x"]}, {"add": [ann["_id"]], "remove": [ann["_id"]]}):
        await api.post(f"{path}/members", wrong, expect=422)
    await api.delete(path, expect=204)
    await api.get(path, expect=404)
    assert await api.all("memberships") == []
    assert {one["email"] for one in await api.all("users")} == {"ann@acme.com", "bob@acme.com"}


@pytest.mark.spec("S7")
async def test_members_by_hand_stand_beside_those_of_the_directory(api, customer):
    ann, bob = [await put_user(api, customer, f"{name}@acme.com") for name in ("ann", "bob")]
    group = await put_group(api, customer, "sales", [ann])
    path = f"{customer}/groups/{group['_id']}"
    await api.post(f"{path}/members", {"add": [bob["_id"]]}, expect=200)
    sources = {one["email"]: one["source"] for one in await members_of(api, customer, group)}
    assert sources == {"ann@acme.com": "ldap", "bob@acme.com": "manual"}
    refused = await api.post(f"{path}/members", {"remove": [ann["_id"], bob["_id"]]}, expect=409)
    assert refused.json()["code"] == "wrong-state"
    assert len(await members_of(api, customer, group)) == 2
    assert (await api.patch(path, {"name": "x"}, expect=409)).json()["code"] == "wrong-state"
    assert (await api.delete(path, expect=409)).json()["code"] == "wrong-state"
