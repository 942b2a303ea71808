"""Servers that send more than they were asked for, or as little as keeps a reader waiting (SPEC S16, L1)."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

import pytest

from postern_sync.adapters.ldap import objects, pace, reader, sampling
from postern_sync.adapters.ldap.factory import make_ldap_source
from postern_sync.rules.proof import prove
from postern_sync.source import SourceFailed
from tests.integration.test_ldap_odd_servers import directory, is_groups, read, user
from tests.integration.test_ldap_testing import SECRETS, ask, last, service
from tests.servers.ldap_wire import Answer, Done, Entry, LdapWire, Octets, Search, settings
from tests.servers.slapd import PASSWORD, Everything

Behaviour = Callable[[Search], Iterable[Answer]]
FLOOD = 100_000


class Flood:
    """Answers with entries for as long as somebody reads; `sent` tells how many were taken off its hands."""

    def __init__(self, where: str, **attributes: Any) -> None:
        self.where = where
        self.attributes = attributes
        self.sent = 0

    def __call__(self, search: Search) -> Iterator[Answer]:
        place = "base" if search.is_base else "groups" if is_groups(search) else "users"
        if place == self.where:
            for number in range(FLOOD):
                yield Entry(f"CN=User{number},DC=demo,DC=test", self.attributes)
                self.sent += 1
        elif search.is_base:
            yield Entry(search.base, {"objectClass": ["domain"]})
        yield Done()


@pytest.mark.spec("L1")
@pytest.mark.parametrize(("where", "step"), [("base", "connect"), ("users", "connect")])
async def test_a_test_of_settings_ends_with_the_first_entry_too_many(where: str, step: str):
    flood = Flood(where, mail=["x" * 1000])
    with LdapWire(flood).running() as wire:
        answer = await ask("test", settings(wire.port))
    assert (answer["ok"], last(answer)[0]) == (False, step)
    assert "more entries than it was asked for" in last(answer)[2]
    assert flood.sent < FLOOD  # nobody listened to the end


@pytest.mark.spec("S12")
async def test_a_look_at_entries_ends_with_the_first_entry_too_many():
    flood = Flood("users", mail=["ann@demo.test"], objectGUID=[UUID(int=1).bytes_le])
    query = {"kind": "user", "search": "", "limit": 5}
    with LdapWire(flood).running() as wire:
        answer = await ask("browse", settings(wire.port), query=query)
    assert (len(answer["entries"]), answer["truncated"]) == (5, True)
    assert flood.sent < FLOOD


@pytest.mark.spec("S12")
async def test_an_entry_with_thousands_of_aliases_does_not_swell_a_look():
    aliases = ["SMTP:ann@demo.test", *(f"smtp:ann{number}@demo.test" for number in range(5000))]
    ann = Entry("CN=Ann,DC=demo,DC=test", {"objectGUID": [UUID(int=1).bytes_le], "proxyAddresses": aliases})
    with LdapWire(directory(lambda _search: [ann, Done()])).running() as wire:
        answer = await ask("browse", settings(wire.port), query={"kind": "alias", "search": "ann", "limit": 20})
    assert (len(answer["entries"]), answer["truncated"]) == (20, True)
    assert sum(len(entry["aliases"]) for entry in answer["entries"]) <= 20 * 100


@pytest.mark.spec("S12")
async def test_an_entry_that_cannot_be_named_costs_no_other_its_answer():
    def users(_search: Search) -> Iterator[Answer]:
        yield Entry("CN=A\0dam,DC=demo,DC=test", {"mail": ["adam@demo.test"]})
        yield Entry(f"CN=Deep,{'OU=deep,' * 2000}DC=demo,DC=test", {"mail": ["deep@demo.test"]})
        far: Any = {"objectGUID": [UUID(int=1).bytes_le], "mail": ["far@demo.test"]}
        ann: Any = {"objectGUID": [UUID(int=2).bytes_le], "mail": ["ann@demo.test"]}
        yield Entry(f"CN=Far,{'OU=far,' * 2000}DC=demo,DC=test", far)
        yield Entry("CN=Ann,DC=demo,DC=test", ann)
        yield Done()

    with LdapWire(directory(users)).running() as wire:
        answer = await ask("browse", settings(wire.port), query={"kind": "user", "search": "", "limit": 20})
    assert [entry["address"] for entry in answer["entries"]] == ["ann@demo.test", "far@demo.test"]
    assert all(len(entry["name"]) <= 1000 for entry in answer["entries"])


@pytest.mark.spec("L1")
async def test_the_few_entries_of_a_test_may_not_be_of_any_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "MAX_SAMPLE", 50_000)

    def users(search: Search) -> Iterator[Answer]:
        for number in range(5):
            wide = {} if search.attributes == ("1.1",) else {"mail": ["x" * 20_000]}
            yield Entry(f"CN=User{number},DC=demo,DC=test", wide)
        yield Done()

    with LdapWire(directory(users)).running() as wire:
        answer = await ask("test", settings(wire.port))
    assert last(answer) == ("connect", False, "The server sent more than is taken.")


@pytest.mark.spec("S16")
async def test_a_question_about_one_entry_takes_one():
    flood = Flood("base")
    with pytest.raises(SourceFailed, match="more entries than it was asked for"):
        await read(flood)
    assert flood.sent < FLOOD


@pytest.mark.spec("S16")
async def test_values_in_ranges_have_an_end(monkeypatch: pytest.MonkeyPatch):
    """A server that has a next range for ever, or ranges beyond all bounds, is not read any further."""
    monkeypatch.setattr(objects, "MAX_VALUES", 100)

    def answer(search: Search) -> Iterator[Answer]:
        if search.is_base and search.base.startswith("CN=Ann"):
            start = int(search.attributes[0].partition("=")[2].partition("-")[0])
            yield Entry(search.base, {f"proxyAddresses;range={start}-{start + 9}": ["smtp:a@demo.test"] * 10})
            yield Done()
            return
        ann: Any = {"objectGUID": [UUID(int=1).bytes_le], "proxyAddresses;range=0-0": ["smtp:a@demo.test"]}
        yield from directory(lambda _search: [user(1), Entry("CN=Ann,DC=demo,DC=test", ann), Done()])(search)

    found, report, wire = await read(answer)
    assert [problem.partition(":")[0] for problem in report.problems] == ["too_large"]
    assert len(found.entries) == 1
    assert len(wire.searches) < 20


@pytest.mark.spec("S16")
async def test_what_waits_to_be_asked_for_again_has_a_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reader, "MAX_HELD", 10_000)

    def users(_search: Search) -> Iterator[Answer]:
        yield user(0)
        for number in range(1000):
            yield Entry(f"CN=User{number},DC=demo,DC=test", {"proxyAddresses;range=0-0": ["x" * 100]})
        yield Done()

    _, report, _ = await read(directory(users))
    assert report.problems[0].startswith("too_large")


@pytest.mark.spec("S16")
async def test_names_among_the_problems_are_cut():
    """A DN may be as long as a server likes, and a run's record is kept."""
    name = f"CN=all,{'OU=deep,' * 2000}DC=demo,DC=test"

    def answer(search: Search) -> Iterator[Answer]:
        if is_groups(search):
            yield Entry(name, {"objectGUID": [UUID(int=1).bytes_le], "member": [], "member;range=0-0": ["CN=Ann"]})
            yield Done()
        elif search.is_base and search.base == name:
            yield Done(50)
        else:
            yield from directory(lambda _search: [user(1), Done()])(search)

    _, report, _ = await read(answer)
    (problem,) = report.problems
    assert problem.startswith("members_incomplete: CN=all,")
    assert len(problem) < 300


def of_customer(port: int) -> Any:
    """A customer's directory as it is stored."""
    sealed = SECRETS.seal(PASSWORD, "directories/cus_1/ldap.password")
    options = {"include_hidden": True, "include_public_folders": False}
    return {"customer_id": "cus_1", "ldap": settings(port, password=sealed), **options}


def dripping(seconds: float) -> Behaviour:
    """One user a page, a page now and then, for ever."""

    def users(search: Search) -> Iterator[Answer]:
        page = int(search.cookie or b"0")
        if page:
            time.sleep(seconds)
        yield user(page)
        yield Done(0, str(page + 1).encode())

    return directory(users)


@pytest.mark.spec("S16")
async def test_a_reading_has_an_end_however_long_a_server_drips():
    """What was read by then is no whole reading, so that nobody is flagged."""
    began = time.monotonic()
    with LdapWire(dripping(0.2)).running() as wire:
        source = make_ldap_source(
            of_customer(wire.port), SECRETS, service().model_copy(update={"sync_ldap_seconds": 2})
        )
        report = await source.read(Everything())
    assert time.monotonic() - began < 6
    assert report.users > 1
    assert report.problems == ("timeout: The directory could not be read in the time that it is given.",)
    assert not prove(report, None, "ldap", "").is_complete


@pytest.mark.spec("S16")
async def test_an_octet_now_and_then_does_not_keep_a_reader_waiting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "PATIENCE_SECONDS", 1.0)

    def base(_search: Search) -> Iterator[Answer]:
        yield Octets(b"\x30\x84\x00\x00\x10\x00")
        for _ in range(200):
            time.sleep(0.1)
            yield Octets(b"\x00")

    began = time.monotonic()
    with pytest.raises(SourceFailed, match="so slowly"):
        await read(base)
    assert time.monotonic() - began < 5


@pytest.mark.spec("S16")
async def test_entries_one_by_one_with_long_pauses_are_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(pace, "OCTETS_PER_SECOND", 10_000)
    began = time.monotonic()
    _, report, _ = await read(dripping(0.4))
    assert time.monotonic() - began < 8
    assert report.users > 1
    assert [problem.partition(":")[0] for problem in report.problems] == ["too_slow"]


def test_a_server_that_sends_much_may_pause_but_never_longer_than_in_the_beginning(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience = pace.Pace()
    for _ in range(1000):  # a page of half a megabyte every two minutes, for a day and more
        patience.waits()
        now[0] += 120
        patience.took(500_000)
    assert patience.left == pace.PATIENCE_SECONDS
