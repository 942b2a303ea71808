"""Servers that stop, stall, lie or talk nonsense, on the wire: no read hangs, and what is not whole is not taken so."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from postern_sync.adapters.ldap import reader, streaming
from postern_sync.adapters.ldap import session as sessions
from postern_sync.adapters.ldap.factory import ldap_source
from postern_sync.adapters.ldap.session import Access
from postern_sync.source import SourceFailed
from tests.servers.ldap_wire import Answer, Close, Done, Entry, Hang, LdapWire, Octets, Referral, Search, settings, tlv
from tests.servers.slapd import LOOPBACK, PASSWORD, Everything, source_of
from tests.servers.waiting import eventually_async


def is_groups(search: Search) -> bool:
    return b"msExchDynamicDistributionList" in search.filter


def user(number: int) -> Entry:
    return Entry(f"CN=User{number},DC=demo,DC=test", {"objectGUID": [UUID(int=number + 1).bytes_le]})


def directory(users: Callable[[Search], Iterable[Answer]]) -> Callable[[Search], Iterable[Answer]]:
    """A domain controller without groups, and with these answers to searches for users."""

    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base:
            yield Entry(search.base, {"objectClass": ["domain"]})
            yield Done()
        elif is_groups(search):
            yield Done()
        else:
            yield from users(search)

    return answer


async def read(behaviour: Callable[[Search], Iterable[Answer]], **fields: Any) -> tuple[Everything, Any, LdapWire]:
    found = Everything()
    with LdapWire(behaviour).running() as wire:
        report = await source_of(settings(wire.port, **fields)).read(found)
    return found, report, wire


@pytest.mark.spec("S16")
@pytest.mark.parametrize(("code", "word"), [(3, "time_limit"), (4, "size_limit"), (11, "admin_limit"), (51, "busy")])
async def test_a_limit_after_some_entries_is_a_problem_of_the_read(code: int, word: str):
    def users(_search: Search) -> Iterator[Answer]:
        yield from map(user, range(3))
        yield Done(code)

    found, report, _ = await read(directory(users))
    assert len(found.entries) == report.users == 3
    assert [problem.partition(":")[0] for problem in report.problems] == [word]


@pytest.mark.spec("S16")
async def test_the_result_of_every_page_is_looked_at():
    def users(search: Search) -> Iterator[Answer]:
        page = int(search.cookie or b"0")
        yield user(page)
        yield Done(4 if page == 2 else 0, str(page + 1).encode())

    _, report, _ = await read(directory(users))
    assert report.users == 3
    assert report.problems[0].startswith("size_limit")


async def test_an_empty_page_with_a_cookie_is_not_the_end():
    def users(search: Search) -> Iterator[Answer]:
        if search.cookie == b"more":
            yield user(1)
            yield Done()
        else:
            yield Done(0, b"more")

    _, report, _ = await read(directory(users))
    assert (report.users, report.problems) == (1, ())


@pytest.mark.spec("S16")
async def test_empty_pages_without_end_come_to_an_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reader, "MAX_EMPTY_PAGES", 5)

    def users(search: Search) -> Iterator[Answer]:
        if not search.cookie:
            yield user(1)
        yield Done(0, b"more")

    _, report, wire = await read(directory(users))
    assert report.problems[0].startswith("paging")
    assert len(wire.searches) < 20


@pytest.mark.parametrize("flood", ["entries", "references"])
async def test_a_flood_is_cut(monkeypatch: pytest.MonkeyPatch, flood: str):
    monkeypatch.setattr(reader, "MAX_ENTRIES", 20)
    monkeypatch.setattr(streaming, "MAX_MESSAGES", 50)

    def users(_search: Search) -> Iterator[Answer]:
        yield user(0)
        for number in range(1000):
            yield user(number) if flood == "entries" else Referral((f"ldap://other.test/{number}",))

    _, report, _ = await read(directory(users))
    assert report.users <= 21
    assert report.problems[0].startswith("too_large")


@pytest.mark.spec("S16")
async def test_users_without_an_identity_among_others_are_errors_of_reading():
    def users(_search: Search) -> Iterator[Answer]:
        yield from map(user, range(5))
        yield Entry("CN=Hidden,DC=demo,DC=test", {"mail": ["hidden@demo.test"]})
        yield Done()

    found, report, _ = await read(directory(users))
    assert (report.users, report.attribute_errors) == (6, 1)
    assert found.named("CN=Hidden").id == "cn=hidden,dc=demo,dc=test"


@pytest.mark.spec("S10")
@pytest.mark.parametrize("wanted", [True, False])
async def test_public_folders_are_read_where_the_customer_asked_for_them(wanted: bool):
    def answer(search: Search) -> Iterator[Answer]:
        if b"publicFolder" in search.filter:
            fields: dict[str, Any] = {"objectGUID": [UUID(int=99).bytes_le], "mail": ["info@demo.test"]}
            yield Entry("CN=Info,CN=Folders,DC=demo,DC=test", fields)
            yield Done()
        else:
            yield from directory(lambda _search: [user(1), Done()])(search)

    found = Everything()
    with LdapWire(answer).running() as wire:
        report = await source_of(settings(wire.port), include_public_folders=wanted).read(found)
    assert [entry.kind for entry in found.entries.values()] == ["user", *["public_folder"] * wanted]
    assert report.users == 1


@pytest.mark.spec("S16")
async def test_a_server_that_forgets_to_say_whether_there_is_more_was_not_read_whole():
    def users(_search: Search) -> Iterator[Answer]:
        yield user(1)
        yield Done(0, None)

    _, report, _ = await read(directory(users))
    assert report.problems[0].startswith("paging")


async def test_a_server_without_pages_is_read_at_once():
    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base:
            yield Entry(search.base)
            yield Done()
        elif search.cookie is not None:
            yield Done(12, None)
        else:
            if not is_groups(search):
                yield from map(user, range(5))
            yield Done(0, None)

    _, report, _ = await read(answer)
    assert (report.users, report.problems) == (5, ())


@pytest.mark.spec("L2")
async def test_referrals_are_counted_once_and_never_followed():
    elsewhere = LdapWire(directory(lambda _search: [Done()]))
    address = f"ldap://127.0.0.1:{elsewhere.port}/DC=child,DC=demo,DC=test"

    def answer(search: Search) -> Iterator[Answer]:
        if not search.is_base:
            yield Referral((address, f"{address}??sub"))
        yield from directory(lambda _search: [user(1), Done()])(search)

    with elsewhere.running():
        _, report, _ = await read(answer)
        assert (report.users, report.referrals, report.problems) == (1, 1, ())

        def moved(search: Search) -> Iterator[Answer]:
            yield Done(10, referrals=(address,))

        with pytest.raises(SourceFailed) as failed:
            await read(moved)
        assert failed.value.step == "base_dn"
        assert elsewhere.signed_in == []
        assert "127.0.0.1" not in failed.value.message


@pytest.mark.spec("S16")
async def test_a_domain_controller_tells_who_it_is_and_how_far():
    service = "CN=NTDS Settings,CN=DC1,DC=demo,DC=test"

    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base and search.base == "":
            yield Entry("", {"highestCommittedUSN": ["4711"], "dsServiceName": [service]})
            yield Done()
        elif search.base == service:
            yield Entry(service, {"invocationId": [UUID(int=9).bytes_le]})
            yield Done()
        else:
            yield from directory(lambda _search: [user(1), Done()])(search)

    _, report, _ = await read(answer)
    assert (report.invocation_id, report.usn) == (str(UUID(int=9)), 4711)


@pytest.mark.spec("S16")
async def test_a_base_that_is_not_shown_is_told():
    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base:
            yield Done()
        else:
            yield from directory(lambda _search: [Done()])(search)

    _, report, _ = await read(answer)
    assert (report.users, report.base_readable, report.problems) == (0, False, ())


@pytest.mark.spec("L1")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("525", "no such user"), ("52e", "password is wrong"), ("530", "at this time"), ("531", "from here"),
        ("532", "has expired"), ("533", "is disabled"), ("701", "account has expired"), ("773", "must change"),
        ("775", "is locked"),
    ],
)  # fmt: skip
async def test_active_directorys_reasons_are_put_into_words(data: str, words: str):
    text = f"80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data {data}, v4563"
    wire = LdapWire(directory(lambda _search: []), bind=Done(49, None, text))
    with wire.running(), pytest.raises(SourceFailed) as failed:
        await source_of(settings(wire.port)).read(Everything())
    assert failed.value.step == "bind"
    assert words in failed.value.message
    assert "DSID" not in failed.value.message


@pytest.mark.parametrize("where", ["bind", "first entry", "later"])
async def test_a_server_that_says_nothing_more_is_given_up(monkeypatch: pytest.MonkeyPatch, where: str):
    monkeypatch.setattr(sessions, "RECEIVE_SECONDS", 1)

    def users(_search: Search) -> Iterator[Answer]:
        if where == "later":
            yield user(1)
        yield Hang()

    bind = None if where == "bind" else Done()
    found = Everything()
    began = time.monotonic()
    with LdapWire(directory(users), bind=bind).running() as wire:
        reading = source_of(settings(wire.port)).read(found)
        if where == "later":
            assert (await reading).problems[0].startswith("timeout")
        else:
            with pytest.raises(SourceFailed) as failed:
                await reading
            assert failed.value.step == "connect"
    assert time.monotonic() - began < 5


async def test_a_server_that_drips_is_given_up_too():
    """An octet now and then is no answer: there is an end to waiting for one."""

    def users(_search: Search) -> Iterator[Answer]:
        yield Octets(b"\x30\x84\x00\x00\x10\x00")
        for _ in range(50):
            time.sleep(0.2)
            yield Octets(b"\x00")

    began = time.monotonic()
    with LdapWire(directory(users)).running() as wire:
        access = Access(settings(wire.port), PASSWORD, LOOPBACK, time.monotonic() + 2)
        with pytest.raises(SourceFailed):
            await ldap_source(access, datetime.now(UTC)).read(Everything())
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("noise", "word"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
        (b"\x30\x84\x7f\xff\xff\xff", "too_large"),  # two gigabytes announced
        (tlv(0x30, b"\x02\x01\x63" + tlv(0x65, b"\x0a\x01\x00\x04\x00\x04\x00")), "protocol"),
        (tlv(0x30, b"\x02\x01"), "protocol"),
        (b"\x30\x10\x02", "connection_lost"),
    ],
    ids=["http", "huge", "answer to another question", "cut short", "unfinished"],
)
async def test_what_is_no_ldap_ends_the_read(noise: bytes, word: str):
    def users(_search: Search) -> Iterator[Answer]:
        yield user(1)
        yield Octets(noise)
        yield Close()

    _, report, _ = await read(directory(users))
    assert report.users == 1
    assert [problem.partition(":")[0] for problem in report.problems] == [word]


async def test_a_read_whose_task_is_cancelled_lets_go_of_the_connection():
    with LdapWire(directory(lambda _search: [user(1), Hang()])).running() as wire:
        task = asyncio.create_task(source_of(settings(wire.port)).read(Everything()))
        await eventually_async(lambda: any(not search.is_base and not is_groups(search) for search in wire.searches))
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 5


@pytest.mark.spec("L1")
@pytest.mark.parametrize(
    ("answer", "injected", "words"),
    [(2, b"", "no StartTLS"), (0, b"\x30\x0c", "before encryption"), (0, b"", "")],
    ids=["no", "more", "silent"],
)
async def test_nobody_signs_in_before_encryption(
    monkeypatch: pytest.MonkeyPatch, answer: int, injected: bytes, words: str
):
    monkeypatch.setattr(sessions, "RECEIVE_SECONDS", 1)
    wire = LdapWire(directory(lambda _search: [user(1), Done()]), start_tls=Done(answer), injected=injected)
    with wire.running(), pytest.raises(SourceFailed) as failed:
        await source_of(settings(wire.port, security="starttls")).read(Everything())
    assert failed.value.step == "tls"
    assert words in failed.value.message
    assert wire.signed_in == []


async def test_long_reads_leave_the_loops_own_threads_free():
    with LdapWire(directory(lambda _search: [user(1), Hang()])).running() as wire:
        tasks = [asyncio.create_task(source_of(settings(wire.port)).read(Everything())) for _ in range(40)]
        await eventually_async(lambda: len(wire.signed_in) == 40)
        async with asyncio.timeout(2):
            assert await asyncio.to_thread(lambda: 7) == 7
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def test_a_password_stands_in_no_trace():
    access = Access(settings(1), "the secret", LOOPBACK)
    assert "the secret" not in repr(access)


async def test_a_sign_in_that_is_refused_is_not_tried_again():
    """Not at the second server either, which has the same port here: the account would be locked the sooner."""
    with LdapWire(directory(lambda _search: []), bind=Done(49)).running() as wire:
        with pytest.raises(SourceFailed) as failed:
            await source_of(settings(wire.port, second_host="localhost")).read(Everything())
        assert failed.value.step == "bind"
        assert len(wire.signed_in) == 1
