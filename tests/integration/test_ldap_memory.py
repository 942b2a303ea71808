"""Reading costs the same memory whatever the directory's size (SPEC S18)."""

import gc
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from postern_sync.rules.entries import Entry
from tests.servers.farm import Farm
from tests.servers.slapd import Slapd, group, person, running, source_of

USERS = 20_000
MIB = 1024 * 1024


class Passing:
    """Takes all that is read and keeps nothing but how much memory there was."""

    def __init__(self) -> None:
        self.users = 0
        self.members = 0
        self.resident: list[tuple[int, int]] = []

    def put(self, entries: list[Entry]) -> None:
        self.users += len(entries)

    def put_members(self, group_id: str, refs: list[str]) -> None:
        self.members += len(refs)

    def restart_members(self, group_id: str) -> None:
        raise AssertionError("no group is read twice here")

    def progress(self, *, phase: str, read: int, total: int | None = None) -> None:
        if phase == "users":
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.resident.append((read, pages * resource.getpagesize()))


@pytest.fixture(scope="module")
def large(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    part = Slapd(tmp_path_factory.mktemp("slapd"), name="slapd-large")
    logins = [f"user{number}" for number in range(USERS)]
    part.load(
        person(login, proxyAddresses=[f"SMTP:{login}@demo.test", *(f"smtp:{login}.{n}@demo.test" for n in range(5))])
        for login in logins
    )
    part.load([group("everybody", logins), *(group(f"team{number}", logins[number::200]) for number in range(200))])
    with running(part, farm.processes):
        yield part


@pytest.mark.spec("S18")
@pytest.mark.timeout(300)
async def test_20000_users_take_no_more_memory_than_the_first_pages(large: Slapd):
    await source_of(large.settings(user_filter="(uid=user1)")).read(Passing())  # what is loaded once is loaded now
    gc.collect()
    passing = Passing()
    report = await source_of(large.settings(page_size=500)).read(passing)
    assert (report.users, report.groups, report.problems) == (USERS, 201, ())
    assert passing.members == 2 * USERS
    early = max(size for read, size in passing.resident if read <= USERS // 10)
    late = max(size for read, size in passing.resident if read > USERS // 10)
    assert late - early < 4 * MIB, passing.resident
