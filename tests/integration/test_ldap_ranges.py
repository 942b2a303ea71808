"""Groups with more members than a domain controller gives at once, and controllers that give them oddly (CASES 8)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.servers.ldap_wire import Answer, Done, Entry, LdapWire, Search, settings
from tests.servers.slapd import Everything, source_of

GROUP = "CN=all,OU=Groups,DC=demo,DC=test"
LIMIT = 1500
Serve = Callable[[Search, list[str]], dict[str, list[str]]]


def members_of(count: int) -> list[str]:
    return [f"CN=User {number},OU=Staff,DC=demo,DC=test" for number in range(count)]


def asked_range(search: Search) -> tuple[int, int | None] | None:
    """The range of `member` that was asked for."""
    for name in search.attributes:
        base, _, option = name.partition(";range=")
        if base.lower() == "member" and option:
            start, _, stop = option.partition("-")
            return int(start), None if stop == "*" else int(stop)
    return None


def as_ad(search: Search, members: list[str], limit: int = LIMIT) -> dict[str, list[str]]:
    """What Active Directory answers."""
    wanted = asked_range(search)
    if wanted is None:
        if len(members) <= limit:
            return {"member": members} if members else {}
        return {"member": [], f"member;range=0-{limit - 1}": members[:limit]}
    start, stop = wanted
    last = start + limit - 1 if stop is None else min(stop, start + limit - 1)
    if last >= len(members) - 1:
        return {f"member;range={start}-*": members[start:]}
    return {"member": [], f"member;range={start}-{last}": members[start : last + 1]}


def controller(members: list[str], serve: Serve) -> Callable[[Search], Iterable[Answer]]:
    """A domain controller with one group."""

    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base and search.base == GROUP:
            yield Entry(GROUP, serve(search, members))
        elif search.is_base:
            yield Entry(search.base, {"objectClass": ["domain"]})
        elif b"msExchDynamicDistributionList" in search.filter:
            fields: dict[str, Any] = {"objectGUID": [UUID(int=1).bytes_le], "mail": ["all@demo.test"]}
            yield Entry(GROUP, fields | serve(search, members))
        else:
            yield Entry("CN=Ann,DC=demo,DC=test", {"objectGUID": [UUID(int=2).bytes_le], "mail": ["ann@demo.test"]})
        yield Done()

    return answer


async def read(members: list[str], serve: Serve) -> tuple[list[str], tuple[str, ...], LdapWire]:
    """The members that were read, the problems, and the server."""
    found = Everything()
    with LdapWire(controller(members, serve)).running() as wire:
        report = await source_of(settings(wire.port)).read(found)
    return found.members.get(str(UUID(int=1)), []), report.problems, wire


@pytest.mark.spec("L2")
@pytest.mark.parametrize("count", [0, 1, 1499, 1500, 1501, 3000, 3001])
async def test_case_8_all_members_of_a_group_are_read_however_many_there_are(count: int):
    members = members_of(count)
    found, problems, _ = await read(members, as_ad)
    assert found == [name.lower() for name in members]
    assert problems == ()


@pytest.mark.spec("L2")
async def test_a_controller_with_a_lower_limit_gets_more_questions():
    members = members_of(1000)
    found, problems, wire = await read(members, lambda search, all_: as_ad(search, all_, limit=100))
    assert len(found) == 1000
    assert problems == ()
    assert sum(search.base == GROUP for search in wire.searches) == 10


@pytest.mark.spec("L2")
async def test_an_empty_member_by_itself_is_asked_for_once_more():
    def hiding(search: Search, members: list[str]) -> dict[str, list[str]]:
        return as_ad(search, members) if asked_range(search) else {"member": []}

    found, problems, _ = await read(members_of(3), hiding)
    assert (len(found), problems) == (3, ())
    found, problems, _ = await read([], hiding)
    assert (found, problems) == ([], ())


@pytest.mark.spec("L2")
async def test_a_controller_that_gives_the_last_range_only_is_asked_for_small_ones():
    def last_only(search: Search, members: list[str]) -> dict[str, list[str]]:
        wanted = asked_range(search)
        if wanted is not None and wanted[1] is not None:
            return as_ad(search, members)
        start = len(members) // LIMIT * LIMIT
        return {"member": [], f"member;range={start}-*": members[start:]}

    found, problems, _ = await read(members_of(3001), last_only)
    assert sorted(found) == sorted(name.lower() for name in members_of(3001))
    assert problems == ()


@pytest.mark.spec("L2")
async def test_ranges_in_any_order_in_one_answer_are_taken_from_the_first():
    def reversed_blocks(search: Search, members: list[str]) -> dict[str, list[str]]:
        found = as_ad(search, members)
        return dict(reversed(found.items())) | {"member;range=2-*": members[2:3]}

    found, problems, _ = await read(members_of(1501), reversed_blocks)
    assert (len(found), problems) == (1501, ())


@pytest.mark.spec("S16")
@pytest.mark.parametrize("odd", ["gap", "short", "gone", "stuck"])
async def test_members_with_a_gap_make_the_group_incomplete_and_never_small(odd: str):
    def broken(search: Search, members: list[str]) -> dict[str, list[str]]:
        wanted = asked_range(search)
        if wanted is None or wanted[0] == 0:
            if odd == "short" and wanted is not None:
                last = LIMIT - 1 if wanted[1] is None else wanted[1]
                return {"member": [], f"member;range=0-{last}": members[: last - 100]}
            return as_ad(search, members)
        if odd == "short":
            return as_ad(search, members)
        if odd == "gone":
            return {}
        if odd == "stuck":
            return {"member": [], f"member;range=0-{LIMIT - 1}": members[:LIMIT]}
        return {f"member;range={wanted[0] + 100}-*": members[wanted[0] + 100 :]}

    found, problems, _ = await read(members_of(3001), broken)
    assert problems == (f"members_incomplete: {GROUP}",)
    assert len(found) < 3001


@pytest.mark.spec("S16")
async def test_a_group_that_vanishes_while_it_is_read_makes_the_run_incomplete():
    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base and search.base == GROUP:
            yield Done(32)
        else:
            yield from controller(members_of(3001), as_ad)(search)

    found = Everything()
    with LdapWire(answer).running() as wire:
        report = await source_of(settings(wire.port)).read(found)
    assert report.problems == (f"members_incomplete: {GROUP}",)


@pytest.mark.spec("L2")
@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_user_with_more_addresses_than_fit_has_all_of_them_or_is_not_touched(is_whole: bool):
    addresses = [f"smtp:a{number}@demo.test" for number in range(1600)]
    ann = "CN=Ann,DC=demo,DC=test"

    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base and search.base == ann:
            start = 1500 if "proxyAddresses;range=1500-*" in search.attributes else 0
            name = f"proxyAddresses;range={start}-{'*' if start else 1499}"
            yield Entry(ann, {name: addresses[start : start + 1500]} if is_whole or not start else {})
        elif search.is_base:
            yield Entry(search.base, {"objectClass": ["domain"]})
        elif b"msExchDynamicDistributionList" not in search.filter:
            fields: dict[str, Any] = {
                "objectGUID": [UUID(int=2).bytes_le],
                "mail": ["ann@demo.test"],
                "proxyAddresses": [],
            }
            yield Entry(ann, fields | {"proxyAddresses;range=0-1499": addresses[:1500]})
        yield Done()

    found = Everything()
    with LdapWire(answer).running() as wire:
        report = await source_of(settings(wire.port)).read(found)
    if is_whole:
        assert len(found.entries[str(UUID(int=2))].aliases) == 1600
        assert report.problems == ()
    else:
        assert found.entries == {}
        assert report.problems == (f"values_incomplete: {ann}",)


@pytest.mark.spec("S7")
async def test_members_by_primary_group_are_members_too():
    sid = bytes([1, 5, 0, 0, 0, 0, 0, 5]) + b"".join(part.to_bytes(4, "little") for part in (21, 1, 2, 3, 513))

    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base:
            yield Entry(search.base, {"objectClass": ["domain"]})
        elif b"msExchDynamicDistributionList" in search.filter:
            yield Entry(GROUP, {"objectGUID": [UUID(int=1).bytes_le], "objectSid": [sid], "member": ["CN=Bob,DC=x"]})
        else:
            for number, rid in ((2, "513"), (3, "514")):
                fields: dict[str, Any] = {"objectGUID": [UUID(int=number).bytes_le], "primaryGroupID": [rid]}
                yield Entry(f"CN=User{number},DC=x", fields)
        yield Done()

    found = Everything()
    with LdapWire(answer).running() as wire:
        await source_of(settings(wire.port)).read(found)
    assert found.members == {str(UUID(int=1)): ["cn=bob,dc=x", "cn=user2,dc=x"]}
